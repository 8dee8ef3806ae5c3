"""Builds the command line, importing only the code of the verb that is called.

The verb is found among the arguments first. It alone is imported; all other verbs are just lines of the help.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stillpoint.cli.verbs import VERBS, Verb
from stillpoint.errors import StackUnavailable, StillpointError

if TYPE_CHECKING:
    from typer.core import TyperGroup

HELP = "Real-time features and recommendations around Feast. Start with `stillpoint demo`, or `stillpoint up`."
_PASSING_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


class VerbUnavailable(StillpointError):
    """The code of a verb cannot be imported."""


def command(arguments: Sequence[str]) -> "TyperGroup":
    """Return the command group for these arguments: the named verb with its code, the others as lines of help.

    Raises:
        VerbUnavailable: the verb's room is not installed, or cannot be imported.
    """
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    app = typer.Typer(
        name="stillpoint",
        help=HELP,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for verb in VERBS:
        _add(app, verb, _load(verb) if verb.name == called else _not_called)
    group: TyperGroup = typer.main.get_command(app)  # type: ignore[assignment]
    return group


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"stillpoint {importlib.import_module('stillpoint').__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_tell_version)
    ] = False,
) -> None:
    """Take the options that stand before any verb."""


def _not_called() -> None:
    raise AssertionError("a verb was called that the arguments did not name")


def _add(app: typer.Typer, verb: Verb, code: typer.Typer | Callable[..., Any]) -> None:
    if isinstance(code, typer.Typer):
        app.add_typer(code, name=verb.name, help=verb.help, no_args_is_help=True, rich_help_panel=verb.panel)
    else:
        settings = _PASSING_ON if verb.passes_on else None
        shown = verb.help if code is _not_called else None
        app.command(verb.name, help=shown, context_settings=settings, rich_help_panel=verb.panel)(code)


def _load(verb: Verb) -> typer.Typer | Callable[..., Any]:
    try:
        code = getattr(importlib.import_module(verb.module), verb.attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and verb.module.startswith(error.name):
            raise VerbUnavailable(
                f"`stillpoint {verb.name}` is not here: its code, {verb.module}, is not installed; "
                "run it in a clone of the Stillpoint repository"
            ) from None
        raise VerbUnavailable(
            f"`stillpoint {verb.name}` needs the package {error.name}, which is not installed; run `make setup`"
        ) from error
    if verb.spark:
        _find_java(verb)
    return code  # type: ignore[no-any-return]


def _find_java(verb: Verb) -> None:
    from stillpoint.local.java import use_java

    try:
        use_java()
    except StackUnavailable as error:
        raise VerbUnavailable(f"`stillpoint {verb.name}` starts Spark, and there is {error}") from None
