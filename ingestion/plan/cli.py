"""The verb `stillpoint plan`."""

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from stillpoint.cli import arguments
from stillpoint.settings import Settings


def plan(
    app: Annotated[
        str | None,
        typer.Option(
            "--app",
            parser=arguments.app,
            metavar="APP",
            help="The edited app's folder or package; STILLPOINT_APP by default.",
        ),
    ] = None,
    every_view: Annotated[
        bool, typer.Option("--every-view", help="Measure all views of the app, not only those that are new.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what an edited app changes against what the stream runs, whom that touches and what it costs. Nothing is written.

    Exit code 1 if the app must not be started so: a view's definition changed under its old name, or a release needs a
    view that is gone. Costs are measured on a sample of the lake.
    """
    from ingestion.plan.report import lines
    from ingestion.plan.report import plan as run
    from stillpoint.app.load import load_app
    from stillpoint.clock import SECOND
    from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
    from stillpoint.events.recorded import event_columns
    from stillpoint.lake.objects import open_objects
    from stillpoint.lake.tables import Lake

    settings = Settings.load()
    loaded = load_app(app or settings.app)
    lake = Lake(
        open_objects(settings.lake, settings.aws_client_arguments()), loaded.features, event_columns(loaded.events)
    )
    made = run(
        lake,
        loaded,
        encoder=RememberingEncoder(WordLlamaEncoder()),
        max_event_age_us=settings.max_event_age * SECOND,
        every_view=every_view,
    )
    if as_json:
        sys.stdout.write(json.dumps(made.to_dict()) + "\n")
    else:
        Console().print("\n".join(lines(made)), markup=False, highlight=False, soft_wrap=True)
    if made.refusals:
        raise typer.Exit(1)
