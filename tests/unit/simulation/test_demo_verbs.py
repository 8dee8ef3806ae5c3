"""Verbs that the demo hands to one process are run there one after the other, each with its own log and code."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from simulation.demo.verb_process import IdleProcesses, VerbOutcome, VerbProcess


@pytest.fixture
def runner() -> Iterator[VerbProcess]:
    command = [sys.executable, "-m", "simulation.demo.verb_process"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield VerbProcess(process)


def test_one_process_runs_verb_after_verb_and_what_each_says_is_kept_apart(runner: VerbProcess, tmp_path: Path) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    refused = runner.run(["events", "simulate", "--days", "many"], first)
    assert refused == VerbOutcome(2, "")
    assert "valid integer" in first.read_text()
    written = tmp_path / "events.jsonl"
    words = ["events", "simulate", "--users", "20", "--contents", "20", "--days", "1", "-o", str(written), "--json"]
    done = runner.run(words, second)
    assert done.code == 0, second.read_text()
    assert json.loads(done.printed)["records"] == len(written.read_bytes().splitlines()) > 0
    assert "valid integer" not in second.read_text()
    assert runner.imported == {"events"}


def test_what_a_verb_needs_is_imported_before_it_is_called(runner: VerbProcess, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert runner.prepare("release", ["json", "simulation.faults"], log) == VerbOutcome(0, "")
    assert runner.imported == {"release"}
    assert runner.run(["--version"], log).code == 0


def test_a_process_that_is_ended_ends_its_verb_with_the_signal(runner: VerbProcess, tmp_path: Path) -> None:
    assert runner.run(["--version"], tmp_path / "log").code == 0
    runner.process.terminate()
    runner.process.wait()
    assert runner.run(["--version"], tmp_path / "log") == VerbOutcome(-15, "")


def test_a_verb_is_run_where_most_of_it_is_imported_and_waits_where_nothing_is_idle() -> None:
    idle, light, heavy = IdleProcesses(), VerbProcess(no_process()), VerbProcess(no_process())
    light.imported, heavy.imported = {"events"}, {"feast", "snapshot"}
    for one in (light, heavy):
        idle.give_back(one)
    assert idle.take("release") is heavy
    assert idle.take("train") is light
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(idle.take, "train")
        idle.give_back(heavy)
        assert waiting.result(60) is heavy


def no_process() -> "subprocess.Popen[bytes]":
    return cast("subprocess.Popen[bytes]", None)
