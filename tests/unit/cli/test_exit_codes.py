"""Exit codes follow one table: 0 done, 1 refused or failed, 2 usage, 130 interrupted."""

import importlib
import re
import socket
import sys
import types
from pathlib import Path

import pytest

from stillpoint import cli
from stillpoint.errors import StillpointError

ROOT = Path(__file__).parents[3]
ROOMS = ("stillpoint", "ingestion", "training", "release", "inference", "validation", "privacy", "simulation")
USAGE = {"InvalidSettings", "InvalidInput", "InvalidSpine", "UnknownFeature", "SourceUnusable", "InvalidApp"}
"""All that says 2: the words of the command or the settings are wrong, whatever the data."""


def kinds() -> dict[str, type[StillpointError]]:
    """Return every error that the product raises on purpose, of every room, by name."""
    found = {"StillpointError": StillpointError}
    files = {path: path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    while True:
        more = {
            name: getattr(importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)), name)
            for path, text in files.items()
            for name, base in re.findall(r"^class (\w+)\((\w+)\):", text, re.MULTILINE)
            if base in found and name not in found
        }
        if not more:
            return found
        found |= more


KINDS = kinds()


@pytest.fixture
def daily(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put a function in place of the verb `daily`."""
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))

    def place(code) -> None:
        module = types.ModuleType("ingestion.cli")
        module.daily = code
        monkeypatch.setitem(sys.modules, "ingestion.cli", module)

    return place


@pytest.mark.parametrize("name", sorted(KINDS))
def test_an_error_is_a_usage_error_only_if_the_words_are_wrong(daily, name: str, capsys) -> None:
    def fails() -> None:
        raise KINDS[name].__new__(KINDS[name], "why")  # some are made of more than their text

    daily(fails)
    assert cli.run(["daily"]) == (2 if name in USAGE else 1)
    assert capsys.readouterr().err == "error: why\n"


def test_the_table_names_only_errors_that_exist() -> None:
    assert set(KINDS) >= USAGE
    assert len(KINDS) > 20, "the search for errors has gone blind"


@pytest.mark.parametrize(
    "raised", [RuntimeError("x"), OSError(5, "x"), MemoryError(), SystemExit(3), ValueError(""), TimeoutError()]
)
def test_whatever_else_happens_is_a_failure(daily, raised: BaseException, capsys) -> None:
    def fails() -> None:
        raise raised

    daily(fails)
    assert cli.run(["daily"]) == 1
    assert capsys.readouterr().err.count("\n") <= 1


@pytest.fixture
def nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_server) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    for name in ("GREEN", "BLUE", "SANDBOX", "SERVING", "STATE"):
        monkeypatch.setenv(f"STILLPOINT_REDIS_{name}", redis_server.connection_string)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("validate snapshot s0123456789abcdef", "there is no snapshot 's0123456789abcdef'"),
        ("validate drift s0123456789abcdef", "there is no snapshot 's0123456789abcdef'"),
        ("train s0123456789abcdef --no-track", "there is no snapshot 's0123456789abcdef'"),
        ("train --no-track", "there is no snapshot in"),
        ("evaluate 0123", "no evaluation of model 0123"),
        (f"explain {'0' * 32}", "no recommendation"),
        ("release check r0001", "r0001"),
        ("release switch r0001", "r0001"),
        ("release retire r0001", "r0001"),
        ("release rollback", "nothing to roll back to"),
        (f"release prepare --model {'0' * 64}", "there is no model"),
        ("features u1", "release"),
        ("export nobody-at-all", "nothing is known of the user nobody-at-all; no archive was written"),
    ],
)
def test_what_is_not_there_is_a_failure_and_no_usage_error(nothing_there: Path, words: str, told: str, capsys) -> None:
    assert cli.run(words.split()) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert [line for line in shown.err.splitlines() if line.startswith("error: ")] == [shown.err.splitlines()[-1]]
    assert "unexpected" not in shown.err
    assert not list(nothing_there.glob("*.zip"))


@pytest.mark.parametrize(
    "words", ["serve --fixtures --port {port}", "serve --port {port}", "stream --metrics-port {port}", "model-server"]
)
def test_a_port_in_use_is_a_failure_in_one_sentence(nothing_there: Path, words: str, capsys, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("STILLPOINT_MODEL_PORT", str(port))
        assert cli.run(words.format(port=port).split()) == 1
    shown = capsys.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use by another program; stop that, or " in shown
    assert shown.count("\n") == 1


def test_a_port_that_is_none_is_usage_also_where_a_variable_names_it(nothing_there: Path, monkeypatch, capsys) -> None:
    for wrong in ("99999", "-1", "http", "١"):
        monkeypatch.setenv("STILLPOINT_MODEL_PORT", wrong)
        assert cli.run(["model-server"]) == 2
        assert f"error: the port is {wrong!r}; expected a number from 0 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "soon", "-1"])
@pytest.mark.parametrize("name", ["HTTP_SECONDS", "CONTENTS_REFRESH", "STREAM_TRIGGER_SECONDS", "TRACE_SHARE"])
def test_a_setting_that_is_no_duration_is_usage(
    nothing_there: Path, name: str, value: str, monkeypatch, capsys
) -> None:
    monkeypatch.setenv(f"STILLPOINT_{name}", value)
    assert cli.run(["status"]) == 2
    assert f"error: settings refused; STILLPOINT_{name}: " in capsys.readouterr().err
