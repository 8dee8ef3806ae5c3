"""`stillpoint feast`: passes a Feast command on to the right colour."""

from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated, Literal

import typer

from stillpoint.errors import InvalidInput
from stillpoint.releases.colour import SANDBOX
from stillpoint.settings import Settings


class Which(StrEnum):
    LIVE = "live"
    IDLE = "idle"
    BLUE = "blue"
    GREEN = "green"
    SANDBOX = "sandbox"


_NAMES: dict[Which, Literal["live", "idle", "blue", "green", "sandbox"]] = {
    Which.LIVE: "live",
    Which.IDLE: "idle",
    Which.BLUE: "blue",
    Which.GREEN: "green",
    Which.SANDBOX: "sandbox",
}


def feast(
    context: typer.Context,
    colour: Annotated[
        Which, typer.Option(help="Whose registry and online store the command works on.")
    ] = Which.SANDBOX,
) -> None:
    """Run a Feast command for a colour: `stillpoint feast --colour idle materialize-incremental 2026-01-01T00:00:00`.

    `teardown` is refused: Feast's deletes every project of its registry. Use `stillpoint release retire`.
    """
    from stillpoint import feast_config
    from stillpoint.clock import system_clock
    from stillpoint.lake.objects import open_objects
    from stillpoint.leases.active_jobs import announced
    from stillpoint.releases.book import ObjectReleaseBook

    arguments = list(context.args)
    if not arguments:
        raise InvalidInput("no Feast command given; try `stillpoint feast --colour sandbox feature-views list`")
    if "teardown" in arguments:
        raise InvalidInput(
            "`feast teardown` deletes every project of the registry; use `stillpoint release retire` for a colour"
        )
    settings = Settings.load()
    mapping_version: int | None = settings.mapping_version
    target: str = SANDBOX
    if colour is not Which.SANDBOX:
        book = ObjectReleaseBook(open_objects(settings.lake, settings.aws_client_arguments()))
        resolved, release = feast_config.resolve(_NAMES[colour], book)
        target, mapping_version = str(resolved), release.mapping_version if release else None
    path = feast_config.write_yaml(settings, target, mapping_version=mapping_version)
    with feast_config.feast_environment(settings, mapping_version):
        fills = any(one.startswith("materialize") for one in arguments)
        objects = open_objects(settings.lake, settings.aws_client_arguments()) if fills else None
        with announced(objects, "stillpoint feast", clock=system_clock) if objects is not None else nullcontext():
            _feast(["-f", str(path), *arguments])


def _feast(arguments: list[str]) -> None:
    """Run Feast's command line in this process: importing Feast once takes seconds, twice takes twice as many."""
    from feast.cli.cli import cli

    code = cli.main(args=arguments, prog_name="feast", standalone_mode=False)
    if isinstance(code, int) and code:
        raise typer.Exit(code)
