"""A program that is run by `python -m` reads its arguments as a verb does: by their types, before anything starts.

A usage error is one line and code 2; so is every other failure, with the code that a verb would end with.
"""

from collections.abc import Callable, Sequence

import typer

from stillpoint.cli import run_to_end


def run_program(name: str, main: Callable[..., None], arguments: Sequence[str]) -> int:
    """Run `main`, whose parameters are declared as a verb's, and return the exit code; `name` is the module's."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(main)
    command = typer.main.get_command(app)
    return run_to_end(lambda: command.main(args=list(arguments), prog_name=f"python -m {name}", standalone_mode=False))
