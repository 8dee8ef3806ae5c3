"""The verb `stillpoint lake`: the lake as open tables."""

import json
import os
import signal
import sys
import threading
from typing import Annotated

import typer
from rich.console import Console

from stillpoint.cli import arguments
from stillpoint.clock import system_clock
from stillpoint.errors import StackUnavailable
from stillpoint.settings import Settings

lake = typer.Typer(help="Publish the lake as open tables.", no_args_is_help=True)


@lake.callback()
def _group() -> None:
    """Keep `publish` a verb of its own."""


@lake.command()
def publish(
    every: Annotated[
        float | None,
        typer.Option(
            "--every", parser=arguments.seconds, metavar="SECONDS", help="Go on until SIGTERM, publishing this often."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line per publication.")] = False,
) -> None:
    """Bring the Iceberg tables up to what is committed in the lake. Run it every minute or with --every 60, beside everything else."""
    from stillpoint.lake.app_lake import open_lake
    from stillpoint.leases.names import publish_lease
    from stillpoint.open_tables.catalogue import open_catalogue
    from stillpoint.open_tables.run import publisher

    settings = Settings.load()
    open_catalogue(settings)
    opened = open_lake(settings)
    run = publisher(settings, opened, system_clock)
    assert run is not None
    stopped = threading.Event()
    if every is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    while True:
        lease = publish_lease(
            opened.objects, holder=f"stillpoint lake publish, process {os.getpid()}", clock=system_clock
        )
        try:
            lease.acquire()
            try:
                done = run()
            finally:
                lease.release()
        except StackUnavailable as error:
            if every is None:
                raise
            Console(stderr=True).print(f"{error}; the next try is in {every:.0f} s", markup=False, soft_wrap=True)
        else:
            report = [
                {"table": one.table, "added_files": one.added, "removed_files": one.removed, "expired": one.expired}
                for one in done
            ]
            if as_json:
                sys.stdout.write(json.dumps({"tables": report}) + "\n")
                sys.stdout.flush()
            elif report or every is None:
                said = [
                    f"{one.table}: {one.added} files added, {one.removed} removed, {one.expired} snapshots expired"
                    for one in done
                ]
                Console().print("\n".join(said) or "every table is as the lake is", markup=False, highlight=False)
        if every is None or stopped.wait(every):
            return
