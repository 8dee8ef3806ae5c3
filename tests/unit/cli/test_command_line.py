"""`stillpoint` lists its verbs quickly, and every failure becomes one line and an exit code."""

import errno
import subprocess
import sys
import types
from pathlib import Path

import pytest
import typer

from stillpoint import cli
from stillpoint.cli.failures import explain
from stillpoint.cli.verbs import VERBS
from stillpoint.errors import InvalidSettings, LeaseHeld


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put a function in place of the verb `daily`."""
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))

    def place(code) -> None:
        module = types.ModuleType("ingestion.cli")
        module.daily = code
        monkeypatch.setitem(sys.modules, "ingestion.cli", module)

    return place


def test_help_lists_every_verb_and_imports_no_room() -> None:
    program = (
        "import sys\nfrom stillpoint.cli import run\ncode = run(['--help'])\n"
        "rooms = {'ingestion', 'training', 'release', 'inference', 'validation', 'feast', 'pyspark', 'pyarrow'}\n"
        "sys.exit(code or ' '.join(rooms & set(sys.modules)) or 0)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    for verb in VERBS:
        assert f"\n  {verb.name} " in shown.stdout


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help(verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb.name, "--help"]) == 0
    assert f"Usage: stillpoint {verb.name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (LeaseHeld("host a holds the lease"), 1, "error: host a holds the lease"),
        (InvalidSettings("STILLPOINT_X is missing"), 2, "error: STILLPOINT_X is missing"),
        (typer.Exit(1), 1, ""),
        (KeyboardInterrupt(), 130, ""),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            1,
            "error: the disk is full (/data/x); free some",
        ),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(room, capsys, raised, code: int, line: str) -> None:
    def daily() -> None:
        raise raised

    room(daily)
    assert cli.run(["daily"]) == code
    shown = capsys.readouterr().err
    assert shown.startswith(line)
    assert shown.count("\n") <= 1


def test_an_unexpected_error_names_the_log_that_holds_its_traceback(room, capsys, tmp_path: Path) -> None:
    def daily() -> None:
        raise ZeroDivisionError("by zero\nsecond line")

    room(daily)
    assert cli.run(["daily"]) == 1
    log = tmp_path / "logs" / "stillpoint-errors.log"
    assert capsys.readouterr().err == (f"error: unexpected ZeroDivisionError: by zero; the traceback is in {log}\n")
    assert "raise ZeroDivisionError" in log.read_text()


@pytest.mark.parametrize("arguments", [["nosuch"], ["daily", "--nosuch"], ["daily", "surplus"], []])
def test_wrong_usage_is_exit_code_2(room, arguments: list[str], capsys) -> None:
    room(lambda: None)
    assert cli.run(arguments) == 2
    assert capsys.readouterr().err


def test_a_room_that_cannot_be_imported_breaks_its_own_verbs_only(monkeypatch, tmp_path: Path, capsys) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ingestion"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "ingestion").mkdir()
    (tmp_path / "ingestion" / "__init__.py").write_text("")
    (tmp_path / "ingestion" / "cli.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.run(["daily"]) == 1
    assert "`stillpoint daily` needs the package no_such_package" in capsys.readouterr().err
    assert cli.run(["status", "--help"]) == 0
    monkeypatch.delitem(sys.modules, "ingestion")


def test_version_is_told_without_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    name, version = capsys.readouterr().out.split()
    assert (name, version.count(".")) == ("stillpoint", 2)


def test_a_server_that_does_not_answer_leads_to_stillpoint_up() -> None:
    import redis

    line, code = explain(redis.ConnectionError("Error 111 connecting to 127.0.0.1:6390. Connection refused."))
    assert code == 1
    assert line.startswith("error: Redis does not answer (Error 111 connecting to 127.0.0.1:6390")
    assert "`stillpoint up`" in line
