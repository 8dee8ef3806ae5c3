"""The verb `demo`."""

import os
from typing import Annotated

import typer
from rich.console import Console

from stillpoint.settings import Settings


def demo(keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False) -> None:
    """Tell the whole path as a story: events change recommendations, a release is switched, rolled back and guarded."""
    from simulation.demo.play import Play
    from simulation.demo.stage import Stage

    os.environ["STILLPOINT_HTTP_WORKERS"] = os.environ.get("STILLPOINT_HTTP_WORKERS", "1")
    with Stage(Settings.load(), keep=keep) as stage:
        Play(stage, Console()).run()
