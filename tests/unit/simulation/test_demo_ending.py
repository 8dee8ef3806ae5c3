"""What the demo says last can be copied and run as it stands, on terminals of any width."""

import shlex
from io import StringIO

import pytest
from rich.console import Console

from simulation.demo.ending import next_steps, tell
from stillpoint.cli.verbs import VERBS

CURL = """curl 'http://127.0.0.1:8090/v1/recommendations' -H 'Content-Type: application/json' -d '{"user_id": "u000339", "kind": "today"}'"""
CONSOLE = "http://127.0.0.1:8095"
RUNNING = {"stream": 11, "worker": 12, "serve": 13}


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("running", [RUNNING, None], ids=["kept", "stopped"])
def test_each_command_stands_whole_on_a_line_of_its_own(width: int, running: dict[str, int] | None) -> None:
    sink = StringIO()
    tell(Console(file=sink, width=width), next_steps(CURL, "u000339", running=running, console=CONSOLE))
    lines = sink.getvalue().splitlines()
    assert {CURL, CONSOLE} <= set(lines)
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("stillpoint ")]
    assert [words[1] for words in commands] == ["features", "release", "feast"]
    assert {words[1] for words in commands} <= {verb.name for verb in VERBS}


def test_what_was_kept_is_named_with_how_to_stop_it_and_nobody_is_told_to_keep_it_again() -> None:
    kept, stopped = ("\n".join(next_steps(CURL, "u1", running=running, console=CONSOLE)) for running in (RUNNING, None))
    assert "stream 11, worker 12, serve 13" in kept
    assert "stillpoint down" in kept
    assert "demo --keep" not in kept
    assert "demo --keep" in stopped
    assert "Running now" not in stopped


def test_a_stack_without_a_console_names_none() -> None:
    assert "console" not in "\n".join(next_steps(CURL, "u1", running=RUNNING, console=None))
