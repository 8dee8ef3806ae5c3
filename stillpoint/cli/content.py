"""`stillpoint content`: a content is withdrawn, restored or looked up, while everything runs."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from stillpoint.cli import arguments
from stillpoint.clock import system_clock
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from stillpoint.catalogue import CatalogueRow
    from stillpoint.lake.tables import Lake

content = typer.Typer(help="Withdraw a content, restore it, or look it up.", no_args_is_help=True)

ContentId = Annotated[
    str, typer.Argument(parser=arguments.content_id, metavar="CONTENT_ID", help="Its id in the catalogue.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@content.command()
def withdraw(content_id: ContentId, as_json: Json = False) -> None:
    """Show a content to nobody any more: not by models, fallbacks, stored lists or pushes, and not in later training.

    Serving processes follow within about two seconds, and at the latest when they read the contents anew.
    """
    from stillpoint.catalogue import withdraw as run

    _change(run, content_id, as_json, "is withdrawn")


@content.command()
def restore(content_id: ContentId, as_json: Json = False) -> None:
    """Undo a withdrawal. The content is shown again from its `published_at` until its `until`."""
    from stillpoint.catalogue import restore as run

    _change(run, content_id, as_json, "is not withdrawn")


@content.command()
def show(content_id: ContentId, as_json: Json = False) -> None:
    """Print what the catalogue says of a content, and whether it may be shown now."""
    from stillpoint.catalogue import find

    now = system_clock()
    row = find(_lake(Settings.load()), content_id, now=now)
    _print(row, now, as_json, "may be shown" if row.offered_at(now) else "may not be shown")


def _lake(settings: Settings) -> "Lake":
    from stillpoint.lake.app_lake import open_lake

    return open_lake(settings)


def _change(
    run: "Callable[..., CatalogueRow]",
    content_id: str,
    as_json: bool,
    said: str,
) -> None:
    from stillpoint.catalogue import notify_change
    from stillpoint.errors import StillpointError
    from stillpoint.stores.redis.connection import connect

    settings, now = Settings.load(), system_clock()
    row = run(_lake(settings), content_id, at=now)
    try:
        notify_change(connect(settings.redis_serving.get_secret_value()))
    except StillpointError as error:
        typer.echo(
            f"warning: serving processes could not be told and follow within {settings.contents_refresh:g} s: {error}",
            err=True,
        )
    _print(row, now, as_json, said)


def _print(row: "CatalogueRow", now: datetime, as_json: bool, said: str) -> None:
    if as_json:
        document = {
            "content_id": row.content_id,
            "title": row.title,
            "published_at": row.published_at.isoformat(),
            "until": None if row.until is None else row.until.isoformat(),
            "withdrawn": row.withdrawn,
            "updated_at": row.updated_at.isoformat(),
            "offered": row.offered_at(now),
        }
        typer.echo(json.dumps(document))
        return
    end = "without an end" if row.until is None else f"until {row.until:%Y-%m-%d %H:%M} UTC"
    typer.echo(f"{row.content_id} {row.title!r} {said}; published {row.published_at:%Y-%m-%d %H:%M} UTC, {end}")
