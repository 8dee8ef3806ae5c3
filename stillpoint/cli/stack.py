"""The verbs of the embedded stack: up, down, status."""

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
    and logs below STILLPOINT_HOME. Also writes the feature_store.*.yaml files of the colours there.
    """
    began = time.monotonic()
    stack = Stack(Settings.load(), detached=True)
    started = stack.start()
    if started:
        typer.echo(f"started {', '.join(started)} in {time.monotonic() - began:.1f} s")
    else:
        typer.echo("already up")
    typer.echo("next: `stillpoint status`, or `stillpoint demo`; `stillpoint down` stops it")


def down() -> None:
    """Stop the embedded stack. Its data stay under STILLPOINT_HOME."""
    stopped = Stack(Settings.load()).stop()
    typer.echo(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


def status(as_json: Json = False) -> None:
    """Show each server with address, version and health. Exit code 1 if one is down."""
    found = Stack(Settings.load()).status()
    if as_json:
        typer.echo(json.dumps({"servers": [asdict(server) for server in found]}, indent=1))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("server", "address", "health", "version", "pid")
        for server in found:
            table.add_row(server.title, server.address, server.health, server.version or "-", str(server.pid or "-"))
        Console().print(table)
        for server in found:
            if server.health == "down":
                typer.echo(f"{server.title} is down" + (f"; its log is {server.log}" if server.log else ""))
    if any(server.health == "down" for server in found):
        raise typer.Exit(1)
