"""`stillpoint repair`: removes values that should not be in the stores, and restores valid ones."""

import json
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from stillpoint.clock import system_clock
from stillpoint.settings import Settings

repair = typer.Typer(help="Take out of the stores what should not lie there.", no_args_is_help=True)


@repair.callback()
def _group() -> None:
    """Keep `future` a word of its own."""


@repair.command()
def future(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; exit code 1 if there is anything.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove values with future timestamps from the lake's features, every colour and the stored lists.

    Until their time comes they count as newer than every valid value. The newest valid rows of the lake are written in their place.
    It may run beside everything else, and may be repeated.
    """
    from stillpoint.lake.app_lake import open_lake
    from stillpoint.leases.names import compact_lease
    from stillpoint.releases.colour import SANDBOX, Colour, project_name
    from stillpoint.stores.redis.connection import connect
    from validation.future import FutureRows, repair_lake, repair_online, repair_recommendations

    settings, now, found = Settings.load(), system_clock(), FutureRows()
    lake = open_lake(settings)
    holder = f"stillpoint repair future, process {os.getpid()}"
    lease = compact_lease(lake.objects, holder=holder, clock=system_clock)
    lease.acquire()
    try:
        repair_lake(lake, found, now=now, dry_run=dry_run)
    finally:
        lease.release()
    for colour in Colour:
        client = connect(settings.connection(colour))
        repair_online(lake, client, project_name(colour), found, now=now, dry_run=dry_run)
    sandbox = connect(settings.connection("sandbox"))
    repair_online(lake, sandbox, project_name(SANDBOX), found, now=now, dry_run=dry_run)
    serving = connect(settings.redis_serving.get_secret_value())
    repair_recommendations(serving, found, now=now, dry_run=dry_run)
    if as_json:
        sys.stdout.write(json.dumps({**asdict(found), "total": found.total, "dry_run": dry_run}) + "\n")
    else:
        verb = "lie in the future" if dry_run else "of the future removed"
        lines = [f"{name}: {count:,} rows {verb}" for name, count in found.lake.items()]
        lines += [
            f"{place}: {count:,} entities {verb}"
            + ("" if dry_run else f", {found.refilled.get(place, 0):,} got a true row")
            for place, count in found.online.items()
        ]
        lines += [f"stored lists: {found.recommendations:,} {verb}"] if found.recommendations else []
        typer.echo("\n".join(lines or ["nothing lies in the future"]))
    if dry_run and found.total:
        raise typer.Exit(1)
