"""Tests are marked by the servers that their fixtures start; a test that starts one without its fixture fails.

The marks leave no list to keep: `--quick` deselects all of them.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

FIXTURES_OF_MARK = {
    "redis": {"redis_server", "redis_factory", "redis_of_module", "redis_cluster", "whole_stack"},
    "stack": {"aws", "s3_lake", "whole_stack"},
    "spark": {"java", "spark"},
    "program": {"programs", "whole_stack"},
    "model": {"trained_world"},
    "browser": {"browser"},
}
PROGRAMS = frozenset(
    {"serve", "up", "demo", "worker", "stream", "inference.model_server", "mlflow", "ipykernel_launcher", "console"}
)
"""Words of a Python command line that starts a program of ours, or another's, that stays until it is ended."""


class UndeclaredServer(AssertionError):
    """A test starts a server that none of its fixtures stands for, so `make quick` would start it too."""


def marks_of(fixtures: Iterable[str]) -> set[str]:
    """Return the marks of the servers that these fixtures start."""
    used = set(fixtures)
    return {mark for mark, starting in FIXTURES_OF_MARK.items() if used & starting}


def marks_of_item(item: pytest.Item) -> set[str]:
    """Return the marks of a collected test: of its fixtures, and of those that its parameters name."""
    parameters = getattr(getattr(item, "callspec", None), "params", {}).values()
    named = [value for value in parameters if isinstance(value, str)]
    return marks_of([*getattr(item, "fixturenames", ()), *named])


def quick_ones(items: Iterable[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return tests without any mark of a server, and the others."""
    quick, others = [], []
    for item in items:
        (others if marks_of_item(item) else quick).append(item)
    return quick, others


def heaviest_files_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return tests with the files of the most servers first, so that no worker is left with a long one at the end."""
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(marks_of_item(item))
    return sorted(items, key=lambda item: ("spark" not in marks[item.path], -len(marks[item.path])))


def mark_of_command(command: Sequence[Any]) -> str | None:
    """Return the mark of the server that a command line starts, None if it starts none that we know."""
    words = [part.decode() if isinstance(part, bytes) else str(part) for part in command]
    names = {Path(word).name for word in words}
    if names & {"--version", "-version"}:
        return None
    if "redis-server" in names:
        return "redis"
    if "aws_program.py" in names:
        return "stack"
    if Path(words[0]).name in {"java", "spark-submit", "spark-class"}:
        return "spark"
    python = any(name.startswith("python") for name in names)
    return "program" if python and PROGRAMS & set(words) and "--help" not in words else None


class ServerGuard:
    """A pytest plugin that refuses to start a server in a test whose fixtures do not stand for it."""

    def __init__(self) -> None:
        self._item: pytest.Item | None = None
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "subprocess.Popen" or self._item is None:
            return
        command = arguments[1]
        mark = mark_of_command([command] if isinstance(command, str | bytes) else command)
        if mark is not None and mark not in {one.name for one in self._item.iter_markers()}:
            raise UndeclaredServer(_told(self._item, mark, f"starts {' '.join(map(str, command))[:200]}"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._item = item
        try:
            return (yield)
        finally:
            self._item = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        """A server of the session may run already, so the fixtures that were asked for by name are looked at too."""
        outcome = yield
        request = getattr(item, "_request", None)
        for mark in sorted(
            marks_of(request.fixturenames if request else ()) - {one.name for one in item.iter_markers()}
        ):
            raise UndeclaredServer(_told(item, mark, "asks for a server's fixture by name"))
        return outcome


def _told(item: pytest.Item, mark: str, what: str) -> str:
    fixtures = ", ".join(sorted(FIXTURES_OF_MARK[mark]))
    return (
        f"{item.nodeid} {what}, but is not marked {mark}: use one of the fixtures {fixtures}, "
        "or let the parameter be the fixture's name"
    )
