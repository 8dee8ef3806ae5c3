"""`stillpoint feast`: a Feast command with the registry and the online store of the right colour."""

from collections.abc import Sequence
from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated, Literal

import typer

from stillpoint.cli import moments
from stillpoint.cli.failures import first_line, log_traceback
from stillpoint.clock import system_clock
from stillpoint.errors import InvalidInput, StillpointError
from stillpoint.outages import outage
from stillpoint.releases.colour import SANDBOX
from stillpoint.settings import Settings

_TIMES = {"materialize": 2, "materialize-incremental": 1}
_WITH_VALUE = ("--views", "-v", "--version")


class FeastFailed(StillpointError):
    """A Feast command failed; the text holds what Feast said."""


class Which(StrEnum):
    """A colour, by its name or by its present role, or the sandbox."""

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
    from stillpoint.lake.objects import open_objects
    from stillpoint.leases.active_jobs import announce_job
    from stillpoint.releases.book import ObjectReleaseBook

    arguments = list(context.args)
    if not arguments:
        raise InvalidInput("no Feast command given; try `stillpoint feast --colour sandbox feature-views list`")
    if "teardown" in arguments:
        raise InvalidInput(
            "`feast teardown` deletes every project of the registry; use `stillpoint release retire` for a colour"
        )
    _refuse_no_times(arguments)
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
        with announce_job(objects, "stillpoint feast", clock=system_clock) if objects is not None else nullcontext():
            _feast(["-f", str(path), *arguments])


def _refuse_no_times(arguments: Sequence[str]) -> None:
    """Check the times of a materialization before importing Feast, which takes seconds.

    Raises:
        BadParameter: one is not a time, or lies in the future: Feast would never fill the rows until then.
    """
    command = next((word for word in arguments if word in _TIMES), None)
    if command is None or "--help" in arguments:
        return
    times, rest = [], iter(arguments[list(arguments).index(command) + 1 :])
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            times.append(moments.moment(word))
    if len(times) > _TIMES[command]:
        raise typer.BadParameter(f"`{command}` takes {_TIMES[command]} times; {len(times)} were given")
    if len(times) == 2 and times[0] > times[1]:
        raise typer.BadParameter(f"the first time, {times[0]}, lies after the second, {times[1]}; swap them")


def _feast(arguments: list[str]) -> None:
    """Run Feast's command line in this process: importing Feast once takes seconds, twice takes twice as many.

    Raises:
        FeastFailed: Feast raised something; its traceback is in the log of errors.
    """
    from click import ClickException
    from click.exceptions import Abort, Exit
    from feast.cli.cli import cli

    try:
        code = cli.main(args=arguments, prog_name="feast", standalone_mode=False)
    except (StillpointError, ClickException, Abort, Exit):
        raise
    except Exception as error:  # Feast's commands raise whatever their libraries do
        if outage(error) is not None:
            raise
        log = log_traceback(error, system_clock())
        raise FeastFailed(f"Feast: {first_line(error)} ({type(error).__name__}); the traceback is in {log}") from None
    if isinstance(code, int) and code:
        raise typer.Exit(code)
