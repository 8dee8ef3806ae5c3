"""The audit log keeps every entry, in one order, and shows what was changed in it."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stillpoint.audit.log import EMPTY, AuditAction, AuditLog, entries, entry_key, verify
from stillpoint.errors import AlreadyExists, StackUnavailable
from stillpoint.lake.objects import LocalObjects

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path)


def filled(objects: LocalObjects, count: int) -> AuditLog:
    log = AuditLog(objects, lambda: NOW)
    for number in range(count):
        log.append(AuditAction.SWITCH, by="ann", details={"release": f"r{number:04d}"})
    return log


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 23])
def test_a_new_process_goes_on_where_the_log_ends(count: int, objects: LocalObjects) -> None:
    filled(objects, count)
    entry = AuditLog(objects, lambda: NOW).append(AuditAction.EXPORT, by="bob", user="a" * 64)
    assert entry.sequence == count + 1
    found = verify(objects)
    assert (found.entries, found.problems) == (count + 1, ())
    assert [one.by for one in entries(objects)] == ["ann"] * count + ["bob"]


def test_an_empty_log_is_whole(objects: LocalObjects) -> None:
    assert verify(objects).head == EMPTY
    assert verify(objects, known=EMPTY).problems == ()


def test_several_writers_at_once_lose_nothing_and_keep_one_chain(objects: LocalObjects) -> None:
    logs = [AuditLog(objects, lambda: NOW) for _ in range(4)]

    def write(log: AuditLog, name: str) -> None:
        for _ in range(10):
            log.append(AuditAction.READ, by=name)

    threads = [threading.Thread(target=write, args=(log, f"w{number}")) for number, log in enumerate(logs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(objects).problems == ()
    by = [one.by for one in entries(objects)]
    assert {name: by.count(name) for name in by} == {f"w{number}": 10 for number in range(4)}


def test_an_entry_whose_answer_was_lost_stands_once(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    create = objects.create

    def lost(key: str, data: bytes) -> None:
        create(key, data)
        monkeypatch.setattr(objects, "create", create)
        raise AlreadyExists("a retry of the client finds the key taken")

    monkeypatch.setattr(objects, "create", lost)
    log = AuditLog(objects, lambda: NOW)
    log.append(AuditAction.SWITCH, by="ann")
    log.append(AuditAction.SWITCH, by="ann")
    assert len(list(entries(objects))) == 2
    assert verify(objects).problems == ()


def test_an_outage_is_told_to_the_caller(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(key: str, data: bytes) -> None:
        raise StackUnavailable("the lake does not answer")

    monkeypatch.setattr(objects, "create", away)
    with pytest.raises(StackUnavailable):
        AuditLog(objects, lambda: NOW).append(AuditAction.EXPORT, by="ann")


def test_a_changed_missing_or_foreign_entry_is_found(objects: LocalObjects) -> None:
    filled(objects, 6)
    third = objects.get(entry_key(3))
    objects.put(entry_key(3), third.replace(b'"ann"', b'"bob"'))
    assert verify(objects).problems == (
        "audit/000000000004.json does not follow from entry 3 as it is now: one of the two was changed",
    )
    objects.delete(entry_key(3))
    assert verify(objects).problems == ("audit/000000000004.json follows entry 2: entries between them are missing",)
    objects.put(entry_key(3), b"{}")
    assert verify(objects).problems[0].startswith("audit/000000000003.json is no entry of the audit log")
    objects.put(entry_key(3), objects.get(entry_key(2)))
    assert "audit/000000000003.json holds entry 2" in verify(objects).problems
    objects.put(entry_key(3), third)
    assert verify(objects).problems == ()


def test_an_end_that_was_cut_off_or_written_anew_shows_against_a_head_that_was_kept(objects: LocalObjects) -> None:
    filled(objects, 4)
    kept = verify(objects).head
    filled(objects, 2)
    assert verify(objects, known=kept).problems == ()
    for sequence in (4, 5, 6):
        objects.delete(entry_key(sequence))
    assert verify(objects).problems == ()
    (problem,) = verify(objects, known=kept).problems
    assert "is not part of the log: its end was cut off, or it was written anew" in problem
    AuditLog(objects, lambda: NOW).append(AuditAction.SWITCH, by="somebody else")
    assert len(verify(objects, known=kept).problems) == 1


def test_a_clock_that_went_back_is_told(objects: LocalObjects) -> None:
    filled(objects, 1)
    AuditLog(objects, lambda: datetime(2026, 11, 27, tzinfo=UTC)).append(AuditAction.SWITCH, by="ann")
    (problem,) = verify(objects).problems
    assert "a clock went back" in problem
