"""The verb `stillpoint features`: the catalogue of an app's features, and a user's values in the live release."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperGroup

from inference.cli import features as features_of_user
from stillpoint.cli import arguments
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from stillpoint.app.described import FeatureEntry

_NEWEST_ROWS = 10_000
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _UserOrVerb(TyperGroup):
    """Takes what is no command for a user: `stillpoint features u1` is `stillpoint features user u1`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else ["user", *args])


features = typer.Typer(cls=_UserOrVerb, no_args_is_help=True)
features.command("user")(features_of_user)


@features.command("list")
def catalogue(as_json: _Json = False) -> None:
    """List the app's features with meaning, unit and owner; --json adds type, values, null rule, window and source events."""
    from stillpoint.app.described import entries
    from stillpoint.app.load import load_app

    found = entries(load_app(Settings.load().app))
    if as_json:
        sys.stdout.write(json.dumps([asdict(one) for one in found]) + "\n")
        return
    table = Table(
        Column("feature", no_wrap=True), *(Column(name, overflow="fold") for name in ("meaning", "unit", "owner"))
    )
    for one in found:
        table.add_row(one.reference, one.meaning, one.unit, one.owner or "")
    Console().print(table)


@features.command()
def show(
    feature: Annotated[
        str, typer.Argument(parser=arguments.feature, metavar="FEATURE", help="A feature's name, or view:name.")
    ],
    as_json: _Json = False,
) -> None:
    """Show a feature: its definition, the releases that use it, its last distribution, and how fresh it is."""
    from stillpoint.app.described import entry
    from stillpoint.app.load import load_app
    from stillpoint.clock import system_clock
    from stillpoint.features.distribution import distribution
    from stillpoint.lake.app_lake import open_lake
    from stillpoint.releases.book import ObjectReleaseBook
    from stillpoint.releases.uses import releases_that_use

    settings = Settings.load()
    app = load_app(settings.app)
    one = entry(app, feature)
    lake = open_lake(settings)
    used = releases_that_use(ObjectReleaseBook(lake.objects), lake.objects, one.view, one.name)
    seen: dict[str, Any] = {}
    if lake.files(dataset := f"features/{one.view}"):
        rows = lake.newest(dataset, _NEWEST_ROWS, columns=["event_timestamp", one.name])
        seen = distribution(rows, one.name, now=system_clock())
    told = asdict(one) | {"releases": used, "distribution": seen}
    if as_json:
        sys.stdout.write(json.dumps(told, default=str) + "\n")
        return
    _print(one, used, seen)


def _print(one: "FeatureEntry", used: Mapping[str, str], seen: Mapping[str, Any]) -> None:
    table = Table(title=one.reference, show_header=False)
    lines = {
        "meaning": one.meaning,
        "of": ", ".join(one.entity),
        "type": f"{one.dtype}, in {one.unit}",
        "values": one.values or "any",
        "null when": one.null_when or "never",
        "window": one.window or "its own definition decides",
        "events": ", ".join(one.events) or "none: computed daily",
        "valid for": one.lives or "no limit",
        "owner": one.owner or "nobody is named",
        "releases": ", ".join(f"{name} ({state})" for name, state in used.items()) or "none uses it",
        "in the lake": "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in seen.items()) or "no rows yet",
    }
    for name, value in lines.items():
        table.add_row(name, value)
    Console().print(table)
