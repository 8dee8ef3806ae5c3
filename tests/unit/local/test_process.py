"""A process is recognised for certain, and a server ends with its starter."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillpoint.errors import StackUnavailable
from stillpoint.local.process import Child, ProcessIdentity, free_port, identify, port_answers, stop

SLEEP = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(60)"]


@pytest.fixture
def sleeper(tmp_path: Path):
    child = Child("a sleeper", SLEEP, log=tmp_path / "log")
    child.wait_until(lambda: "awake" in (tmp_path / "log").read_text(), seconds=10)
    yield child
    child.stop()


def test_a_running_process_is_known_by_id_and_start(sleeper: Child) -> None:
    assert identify(sleeper.pid).alive()


def test_a_reused_id_is_not_taken_for_the_old_process(sleeper: Child) -> None:
    former = ProcessIdentity(sleeper.pid, "another boot:1")
    assert not former.alive()
    assert not stop(former)
    assert sleeper.exit_code() is None, "a stranger was signalled"


def test_stop_ends_exactly_that_process(sleeper: Child) -> None:
    process = identify(sleeper.pid)
    assert stop(process)
    assert not process.alive()
    assert not stop(process), "a second stop finds nothing"


def test_a_process_that_ignores_the_request_is_forced(tmp_path: Path) -> None:
    deaf = [
        sys.executable,
        "-c",
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
    ]
    child = Child("a deaf one", deaf, log=tmp_path / "log")
    child.wait_until(lambda: "deaf" in (tmp_path / "log").read_text(), seconds=10)
    child.stop(seconds=0.2)
    assert child.exit_code() == -signal.SIGKILL


def test_child_that_ends_at_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Child("the server", [sys.executable, "-c", "raise SystemExit('no such port')"], log=tmp_path / "log")
    with pytest.raises(StackUnavailable, match=r"the server ended at start with code 1: no such port"):
        child.wait_until(lambda: False, seconds=10)


def test_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    child = Child("the server", ["/no/such/program"], log=tmp_path / "log")
    with pytest.raises(StackUnavailable, match=r"cannot run /no/such/program: No such file"):
        child.wait_until(lambda: False, seconds=10)


def test_child_that_never_answers_is_stopped_and_its_log_named(tmp_path: Path) -> None:
    child = Child("the server", SLEEP, log=tmp_path / "log")
    with pytest.raises(StackUnavailable, match=r"did not answer within 0 s; its log is .*log"):
        child.wait_until(lambda: False, seconds=0.3)
    assert child.exit_code() is not None


def test_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackUnavailable, match="cannot start the server: "):
        Child("the server", SLEEP, log=tmp_path / "file" / "log")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent ended")
def test_child_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom stillpoint.local.process import Child\n"
        f"child = Child('a sleeper', {SLEEP!r}, log=Path({str(tmp_path / 'log')!r}))\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    process = identify(int(starter.stdout.readline()))
    while "awake" not in (tmp_path / "log").read_text():
        time.sleep(0.01)
    os.kill(starter.pid, signal.SIGKILL)
    starter.communicate()
    deadline = time.monotonic() + 10
    while process.alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not process.alive()


def test_a_free_port_answers_nobody() -> None:
    assert not port_answers(free_port())
