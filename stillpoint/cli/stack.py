"""The verbs that start, stop and show the embedded stack, and whatever else a home has started."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from stillpoint.local.stack import Stack
from stillpoint.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def up() -> None:
    """Start the embedded stack and leave it running. A second `up` changes nothing.

    Redis, the AWS stand-in with bucket, stream and queues, the SageMaker stand-in and MLflow, all on loopback, with data
    and logs below STILLPOINT_HOME. Also writes the feature_store.*.yaml files of the colours there, and stops what a
    killed run of this home left behind.
    """
    began = time.monotonic()
    stack = Stack(Settings.load(), detached=True)
    started = stack.start()
    if stack.cleared:
        typer.echo(f"stopped what a killed run had left behind: {', '.join(stack.cleared)}")
    if started:
        typer.echo(f"started {', '.join(started)} in {time.monotonic() - began:.1f} s")
    else:
        typer.echo("already up")
    typer.echo("next: `stillpoint status`, or `stillpoint demo`; `stillpoint down` stops it")


def down() -> None:
    """Stop the embedded stack and all that runs for this home: stream, workers, services, a demo. Its data stay.

    That holds for processes on this machine with this STILLPOINT_HOME, whoever started them.
    """
    stopped = Stack(Settings.load()).stop()
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def status(as_json: Json = False) -> None:
    """Show each server with address, version and health, and what else runs for this home. Exit code 1 if one is down: it ran and was not stopped."""
    stack = Stack(Settings.load())
    found, beside = stack.status(), stack.processes()
    if as_json:
        document = {"servers": [asdict(one) for one in found], "processes": [asdict(one) for one in beside]}
        typer.echo(json.dumps(document, indent=1))
    elif not beside and all(server.health == "stopped" for server in found):
        typer.echo("the stack is stopped; `stillpoint up` starts it, with the data that it had")
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("server", "address", "health", "version", "pid")
        for server in found:
            table.add_row(server.title, server.address, server.health, server.version or "-", str(server.pid or "-"))
        for one in beside:
            table.add_row(one.role, one.address or "-", one.health, "-", str(one.pid))
        Console().print(table)
        if any(one.health == "left behind" for one in beside):
            typer.echo("what was left behind by a killed run is stopped by `stillpoint up` and `stillpoint down`")
        for server in found:
            if server.health == "down":
                typer.echo(f"{server.title} is down" + (f"; its log is {server.log}" if server.log else ""))
    if any(server.health == "down" for server in found):
        raise typer.Exit(1)
