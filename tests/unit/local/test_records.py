"""Whatever a home started is found and stopped, down to the children of children, and nobody else is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillpoint.local.process import Child, ProcessIdentity, identify
from stillpoint.local.records import MARK, ProcessRecord, ProcessRecords, new_mark, processes_with_mark, record_process

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the environment of other processes")
_PROGRAM = """
import subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
print("child", inner.pid, flush=True)
time.sleep(120)
"""
CHAIN = [sys.executable, "-c", _PROGRAM]
"""A process that starts another in a session of its own, as Java starts Python workers."""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[ProcessRecord, ProcessIdentity]]:
    """A process of a home, and what that started in turn."""
    mark, log = new_mark(), tmp_path / "log"
    child = Child("a chain", CHAIN, log=log, marks={MARK: mark}, detached=True)
    until(lambda: "child" in log.read_text())
    inner = identify(int(log.read_text().split()[1]))
    record = ProcessRecord("stream", child.identity(), mark, "127.0.0.1:1", str(log))
    yield record, inner
    record.stop()
    child.stop()


def test_a_record_is_read_as_it_was_written(tmp_path: Path, started) -> None:
    records = ProcessRecords(tmp_path)
    records.write("stream-1", started[0])
    assert records.read("stream-1") == started[0]
    owned = ProcessRecord("verb", started[0].process, "m", None, None, started[1])
    records.write("verb-1", owned)
    assert records.all() == {"stream-1": started[0], "verb-1": owned}


@pytest.mark.parametrize("damage", ["", "42", "{}", '{"pid": "x", "started": "y"}', "[1]", '{"pid": 1}'])
def test_a_damaged_record_counts_as_none_and_goes(tmp_path: Path, damage: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.pid").write_text(damage)
    assert ProcessRecords(tmp_path).all() == {}
    assert not list((tmp_path / "run").iterdir())


def test_a_record_of_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "redis.pid").write_text(json.dumps({"pid": 7, "started": "boot:1"}))
    assert ProcessRecords(tmp_path).all() == {"redis": ProcessRecord("redis", ProcessIdentity(7, "boot:1"))}


@linux
def test_a_stop_reaches_children_in_sessions_of_their_own(started) -> None:
    record, inner = started
    assert record.running()
    assert record.stop()
    assert not record.process.alive()
    assert not inner.alive()
    assert not record.stop(), "a second stop finds nothing"


@linux
def test_what_a_killed_process_had_started_is_still_found_and_stopped(tmp_path: Path, started) -> None:
    record, inner = started
    os.kill(record.process.pid, signal.SIGKILL)
    until(lambda: not record.process.alive())
    assert inner.alive()
    assert record.left_behind()
    assert record.running()
    assert ProcessRecords(tmp_path).stop({"stream-1": record}) == ["stream"]
    assert not inner.alive()


def test_a_recycled_id_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        record = ProcessRecord("stream", ProcessIdentity(stranger.pid, "another boot:1"), new_mark())
        assert ProcessRecords(tmp_path).stop({"stream-1": record}) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_what_belongs_to_a_living_owner_is_no_orphan_and_what_is_kept_belongs_to_nobody(
    tmp_path: Path, started
) -> None:
    records, own = ProcessRecords(tmp_path), identify(os.getpid())
    record = ProcessRecord("stream", started[0].process, started[0].mark, owner=own)
    assert not record.left_behind()
    assert ProcessRecord("stream", started[0].process, owner=ProcessIdentity(own.pid, "gone:1")).left_behind()
    records.write("stream-1", record)
    records.disown(own)
    assert records.read("stream-1").owner is None


def test_a_process_records_itself_for_as_long_as_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "")
    monkeypatch.delenv(MARK)
    with record_process(tmp_path, "worker", address="here:1"):
        (found,) = ProcessRecords(tmp_path).all().values()
        assert (found.role, found.process, found.address) == ("worker", identify(os.getpid()), "here:1")
        assert os.environ[MARK] == found.mark
        assert ProcessRecords(tmp_path).stop(ProcessRecords(tmp_path).all()) == [], "it never stops itself"
    assert ProcessRecords(tmp_path).all() == {}


def test_a_home_that_cannot_be_written_keeps_nobody_from_working(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(MARK, "kept")
    (tmp_path / "file").write_text("")
    with record_process(tmp_path / "file", "worker"):
        pass


def test_nothing_carries_an_empty_mark() -> None:
    assert processes_with_mark("") == []
