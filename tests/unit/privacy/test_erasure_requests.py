"""An erasure that was asked for is done once, whatever is killed, restarted, asked again or away meanwhile."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from privacy.erasure.receipt import RECEIPTS, REQUESTS, Receipt
from privacy.erasure.requests import ErasureRequests
from privacy.erasure.worker import LEASE, LEASE_TTL, ErasureWorker
from stillpoint.errors import CorruptData, StackUnavailable
from stillpoint.lake.objects import LocalObjects
from stillpoint.leases.lease import Lease
from stillpoint.tombstones import digest

KEY = b"key"


class Killed(BaseException):
    """What a kill looks like from within: nothing catches it."""


class World:
    """A lake, a clock, and processes that erase as they are told."""

    def __init__(self, folder: Path) -> None:
        self.objects = LocalObjects(folder)
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.erased: list[str] = []
        self.fails: list[BaseException] = []
        self.requests = ErasureRequests(self.objects, KEY, lambda: self.now)

    def process(self) -> ErasureWorker:
        requests = ErasureRequests(self.objects, KEY, lambda: self.now)
        return ErasureWorker(requests, self.erase, objects=self.objects, clock=lambda: self.now)

    def erase(self, user_id: str) -> Receipt:
        if self.fails and not isinstance(self.fails[0], KeyboardInterrupt):
            raise self.fails.pop(0)
        self.now += timedelta(seconds=1)
        self.erased.append(user_id)
        who = digest(KEY, user_id)
        parts = {"removed": (), "remaining": (), "revised_snapshots": (), "models": (), "skipped": ()}
        receipt = Receipt(person=who, erased_until=self.now, finished_at=self.now, found=True, **parts)
        self.objects.put(f"{RECEIPTS}{who}/{len(self.erased):020d}.json", receipt.model_dump_json().encode())
        if self.fails:
            raise Killed(self.fails.pop(0))
        return receipt


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_request_is_pending_until_its_receipt_is_there_and_then_names_nobody(world: World) -> None:
    assert world.requests.state("u1") is None
    asked = world.requests.ask("u1")
    assert (asked.status, asked.asked_at, asked.receipt) == ("pending", world.now, None)
    world.now += timedelta(minutes=1)
    assert world.requests.ask("u1") == asked, "asking again changes nothing"
    assert world.process().work_off() == 0
    done = world.requests.state("u1")
    assert done is not None
    assert (done.status, done.receipt is not None, world.erased) == ("done", True, ["u1"])
    assert list(world.objects.list(REQUESTS)) == []
    assert all(b"u1" not in world.objects.get(key) for key in world.objects.list(""))
    assert world.process().work_off() == 0
    assert world.erased == ["u1"]


def test_requests_are_done_in_the_order_in_which_they_were_asked_for(world: World) -> None:
    for user in ("u3", "u1", "u2"):
        world.now += timedelta(seconds=1)
        world.requests.ask(user)
    assert world.process().work_off() == 0
    assert world.erased == ["u3", "u1", "u2"]


def test_what_cannot_be_done_now_stays_with_its_reason_and_keeps_no_other_back(world: World) -> None:
    world.requests.ask("u1")
    world.now += timedelta(seconds=1)
    world.requests.ask("u2")
    world.fails = [StackUnavailable("a fill is under way"), ValueError("u1 at redis://secret")]
    process = world.process()
    assert process.work_off() == 2
    first, second = world.requests.state("u1"), world.requests.state("u2")
    assert first is not None
    assert second is not None
    assert (first.status, first.attempts, first.problem) == ("pending", 1, "a fill is under way")
    assert second.problem == "ValueError; the service's log tells more", "and shows nothing of the inside"
    assert process.work_off() == 0
    assert world.erased == ["u1", "u2"]


def test_an_erasure_that_was_killed_is_done_by_the_next_process(world: World) -> None:
    world.requests.ask("u1")
    world.fails = [Killed()]
    with pytest.raises(Killed):
        world.process().work_off()
    assert world.erased == []
    assert world.process().work_off() == 0
    assert world.erased == ["u1"]


def test_a_kill_between_receipt_and_note_erases_nobody_twice_and_keeps_the_receipt(world: World) -> None:
    world.requests.ask("u1")
    world.fails = [KeyboardInterrupt()]
    with pytest.raises(Killed):
        world.process().work_off()
    state = world.requests.state("u1")
    assert state is not None
    assert state.status == "pending"
    assert world.process().work_off() == 0
    assert world.erased == ["u1"]
    done = world.requests.state("u1")
    assert done is not None
    assert done.receipt is not None
    assert done.receipt.found


def test_a_user_who_came_back_is_erased_anew(world: World) -> None:
    world.requests.ask("u1")
    world.process().work_off()
    world.now += timedelta(hours=1)
    assert world.requests.ask("u1").status == "pending"
    assert world.process().work_off() == 0
    assert world.erased == ["u1", "u1"]


def test_one_process_at_a_time_erases_and_a_dead_one_is_followed(world: World) -> None:
    world.requests.ask("u1")
    Lease(world.objects, LEASE, holder="another", ttl=LEASE_TTL, clock=lambda: world.now).acquire()
    process = world.process()
    assert process.work_off() == 1
    assert world.erased == []
    world.now += LEASE_TTL
    assert process.work_off() == 0
    assert world.erased == ["u1"]


def test_a_started_worker_does_what_an_earlier_process_left_and_what_it_is_woken_for(world: World) -> None:
    done = threading.Event()
    erase = world.erase

    def told(user_id: str) -> Receipt:
        receipt = erase(user_id)
        done.set()
        return receipt

    world.erase = told  # type: ignore[method-assign]
    world.requests.ask("left")
    process = world.process()
    process.start()
    try:
        assert done.wait(20)
        done.clear()
        world.requests.ask("new")
        process.wake()
        assert done.wait(20)
    finally:
        process.close()
    assert world.erased == ["left", "new"]


def test_what_is_no_request_is_named(world: World) -> None:
    world.objects.put(f"{REQUESTS}x.json", b"{}")
    with pytest.raises(CorruptData, match=r"erasing/x\.json is no request"):
        world.requests.pending()
