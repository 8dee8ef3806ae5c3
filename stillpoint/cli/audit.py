"""`stillpoint audit`: who did what to releases and users' data, and whether that record is whole."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from stillpoint.audit.head import Head
from stillpoint.cli import arguments
from stillpoint.clock import system_clock
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from stillpoint.lake.objects import Objects

audit = typer.Typer(help="Who did what to releases and users' data.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@audit.command()
def show(
    user_id: Annotated[
        str | None,
        typer.Option("--user", parser=arguments.user_id, metavar="USER", help="Only what concerns this user."),
    ] = None,
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the newest entries.")] = 50,
    as_json: Json = False,
) -> None:
    """Show the newest entries, the oldest first. A user stands in the log as an HMAC; `--user` finds them by it."""
    from stillpoint.audit.log import entries
    from stillpoint.tombstones import digest, erasure_key

    settings = Settings.load()
    whose = None if user_id is None else digest(erasure_key(settings), user_id)
    found = [one for one in entries(_objects(settings)) if whose is None or one.user == whose][-last:]
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found]))
        return
    table = Table(*(Column(name, overflow="fold") for name in ("#", "when (UTC)", "who", "what", "user", "details")))
    for one in found:
        details = ", ".join(f"{name} {value}" for name, value in one.details.items())
        table.add_row(
            str(one.sequence), f"{one.at:%Y-%m-%d %H:%M:%S}", one.by, one.action, (one.user or "")[:12], details
        )
    Console().print(table)


@audit.command()
def verify(
    known: Annotated[
        Head | None,
        typer.Option(
            "--head",
            parser=arguments.audit_head,
            metavar="HEAD",
            help="A head that an earlier verification printed, kept elsewhere.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every link of the log's chain and print its head; keep the head where nobody of the log's writers can change it."""
    from stillpoint.audit.log import verify as run

    found = run(_objects(Settings.load()), known=known)
    if as_json:
        typer.echo(json.dumps(asdict(found) | {"head": str(found.head)}))
    else:
        for problem in found.problems:
            typer.echo(problem)
        typer.echo(f"{found.entries} entries, {'every link holds' if not found.problems else 'the chain is broken'}")
        typer.echo(f"head {found.head}")
    if found.problems:
        raise typer.Exit(1)


def _objects(settings: Settings) -> "Objects":
    from stillpoint.lake.objects import open_objects

    return open_objects(settings.lake, settings.aws_client_arguments())


def note_reading(settings: Settings, objects: "Objects", user_id: str, **details: str) -> None:
    """Note in the audit log that the operator of this command looks at one user's data.

    Raises:
        StackUnavailable: the lake does not answer; then the data must not be shown.
    """
    from stillpoint.audit.log import AuditAction, AuditLog
    from stillpoint.cli.operator import operator
    from stillpoint.tombstones import digest, erasure_key

    AuditLog(objects, system_clock).append(
        AuditAction.READ, by=operator(), user=digest(erasure_key(settings), user_id), details=details
    )
