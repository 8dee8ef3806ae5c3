"""The verbs that concern users' own data: export and erase."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stillpoint.audit.log import AuditAction, AuditLog
from stillpoint.cli import arguments
from stillpoint.cli.operator import operator
from stillpoint.clock import system_clock
from stillpoint.errors import NotFound
from stillpoint.lake.files import write_whole
from stillpoint.settings import Settings
from stillpoint.tombstones import digest, erasure_key

if TYPE_CHECKING:
    from privacy.erasure.receipt import Receipt

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _lake(settings: Settings) -> Any:
    from stillpoint.lake.app_lake import open_lake

    return open_lake(settings)


def _note(settings: Settings, lake: Any, action: AuditAction, user_id: str) -> None:
    user = digest(erasure_key(settings), user_id)
    AuditLog(lake.objects, system_clock).append(action, by=operator(), user=user)


def erase(
    users: Annotated[
        list[str] | None, typer.Argument(parser=arguments.user_id, metavar="USER...", help="The users' ids.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--from-file", parser=arguments.source_file, metavar="FILE", help="A file of further ids, one a line."
        ),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(parser=arguments.seconds, metavar="SECONDS", help="Seconds to wait for a fill or the stream."),
    ] = 900.0,
    as_json: Json = False,
) -> None:
    """Erase users everywhere in one pass and print their receipts. Running it again is harmless."""
    from privacy.erasure.run import erase_users as run
    from stillpoint.open_tables.run import publisher

    whom = [*(users or ()), *(_ids_in(file) if file is not None else ())]
    if not whom:
        raise typer.BadParameter("no user is named; give ids, or --from-file FILE with one a line")
    settings = Settings.load()
    lake = _lake(settings)
    for user in dict.fromkeys(whom):
        _note(settings, lake, AuditAction.ERASE, user)
    with Console(stderr=True).status("erasing") as status:
        receipts = run(
            settings,
            lake,
            whom,
            clock=system_clock,
            publish=publisher(settings, lake, system_clock),
            wait_seconds=wait,
            progress=lambda what: status.update(f"erasing: {what}"),
        )
    for user, receipt in zip(dict.fromkeys(whom), receipts, strict=True):
        if as_json:
            sys.stdout.write(receipt.model_dump_json() + "\n")
        else:
            if len(receipts) > 1:
                Console().print(f"{user}:", markup=False, highlight=False)
            _show(receipt)


def _ids_in(file: Path) -> list[str]:
    """Return the ids in a file, one a line; empty lines are left out."""
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.strip():
            try:
                found.append(arguments.user_id(line.strip()))
            except typer.BadParameter as error:
                raise typer.BadParameter(f"{file}, line {number}: {error.message}") from None
    return found


def _show(receipt: "Receipt") -> None:
    console = Console()
    console.print(
        f"Erased up to {receipt.erased_until:%Y-%m-%d %H:%M:%S} UTC."
        if receipt.found
        else "Nothing of this user was found; a tombstone keeps late events of theirs out."
    )
    table = Table("where", "removed")
    for one in receipt.removed:
        table.add_row(one.place, f"{one.count:,} {one.what}")
    console.print(table)
    table = Table("may still hold something", "until", "why")
    for left in receipt.remaining:
        table.add_row(left.place, "" if left.until is None else f"{left.until:%Y-%m-%d %H:%M} UTC", left.why)
    console.print(table)
    for title, names in (
        ("Snapshots revised", receipt.revised_snapshots),
        ("Models trained on this user's data; retrain to replace them", receipt.models),
        ("Left as they are", receipt.skipped),
    ):
        if names:
            console.print(f"{title}: {', '.join(names)}")


def export(
    user_id: Annotated[str, typer.Argument(parser=arguments.user_id, metavar="USER", help="The user's id.")],
    to: Annotated[
        Path | None,
        typer.Option(
            parser=arguments.new_file, metavar="FILE", help="The archive; default: export-<time>.zip in this folder."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write all that is known of one user into one readable archive."""
    from privacy.export import archived

    now, settings = system_clock(), Settings.load()
    target, lake = to or Path(f"export-{now:%Y%m%dT%H%M%S}.zip"), _lake(settings)
    _note(settings, lake, AuditAction.EXPORT, user_id)
    data, counts = archived(settings, lake, user_id, now=now)
    if not any(counts.values()):
        raise NotFound(f"nothing is known of the user {user_id}; no archive was written")
    write_whole(target, data, mode=0o600)
    if as_json:
        sys.stdout.write(json.dumps({"archive": str(target), "records": counts}) + "\n")
    else:
        held = ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "nothing"
        Console().print(f"{target}: {held}")
