"""A lease lets one holder in at a time, and keeps a former one out, over a folder and over S3."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from stillpoint.errors import Fenced, LeaseHeld
from stillpoint.leases.lease import Lease, renewing

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = BEGIN

    def __call__(self):
        return self.now


@pytest.fixture(params=["lake", "s3_lake"])
def store(request):
    return request.getfixturevalue(request.param).objects


@pytest.fixture
def clock():
    return Clock()


def lease(store, clock, holder):
    return Lease(store, "stream", holder=holder, ttl=timedelta(seconds=10), clock=clock)


def test_a_second_holder_is_refused_and_told_who_holds_it(store, clock):
    lease(store, clock, "process 1 on alpha").acquire()
    clock.now += timedelta(seconds=4)
    with pytest.raises(
        LeaseHeld, match=r"lease stream is held by process 1 on alpha since 2026-03-01 .* last seen 4 s ago"
    ):
        lease(store, clock, "process 2 on beta").acquire()


def test_a_released_lease_is_free_at_once_and_its_epoch_grows(store, clock):
    first, second = lease(store, clock, "a"), lease(store, clock, "b")
    assert first.acquire() == 1
    first.release()
    assert first.holder() is None
    assert second.acquire() == 2


def test_renewal_keeps_others_out_for_as_long_as_it_goes_on(store, clock):
    first, second = lease(store, clock, "a"), lease(store, clock, "b")
    first.acquire()
    for _ in range(5):
        clock.now += timedelta(seconds=9)
        first.renew()
        with pytest.raises(LeaseHeld):
            second.acquire()


def test_a_holder_that_slept_past_its_time_is_fenced_by_the_next_one(store, clock):
    zombie, heir = lease(store, clock, "zombie"), lease(store, clock, "heir")
    zombie.acquire()
    clock.now += timedelta(seconds=10)
    assert heir.acquire() == 2
    for touch in (zombie.check, zombie.renew):
        with pytest.raises(Fenced, match=r"lease stream of epoch 1 is lost; it belongs to heir \(epoch 2\)"):
            touch()
    zombie.release()
    heir.check()
    assert heir.holder().holder == "heir"


def test_of_many_that_want_a_free_lease_one_gets_it(store, clock):
    won, refused = [], []
    ready = threading.Barrier(6)

    def want(name):
        wanted = lease(store, clock, name)
        ready.wait()
        try:
            won.append((name, wanted.acquire()))
        except LeaseHeld:
            refused.append(name)

    threads = [threading.Thread(target=want, args=(f"p{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(refused) == 5


def test_who_never_acquired_has_no_epoch(store, clock):
    with pytest.raises(Fenced, match="acquire it first"):
        _ = lease(store, clock, "a").epoch


def test_a_kept_lease_is_renewed_through_failures_of_the_store_until_it_is_lost(lake, clock):
    holder, heir = lease(lake.objects, clock, "a"), lease(lake.objects, clock, "b")
    holder.acquire()
    lost = []
    real, failures = lake.objects.put, [OSError("no answer"), OSError("no answer")]

    def put(key, data):
        if failures:
            raise failures.pop()
        real(key, data)

    lake.objects.put = put
    with renewing(holder, every=0.01, lost=lost.append):
        _until(lambda: not failures)
        clock.now += timedelta(seconds=5)
        _until(lambda: holder.holder() is not None and _seen(lake) == clock.now)
        assert not lost
        clock.now += timedelta(seconds=30)
        taken = None
        while taken is None:
            try:
                taken = heir.acquire()
            except LeaseHeld:
                clock.now += timedelta(seconds=30)
        _until(lambda: lost)
    assert isinstance(lost[0], Fenced)


def _seen(lake):
    return datetime.fromisoformat(str(lake.get_json("leases/stream/heartbeat.json")["at"]))


def _until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Away(Exception):
    """A store that does not answer."""


def renewed_after(monkeypatch, mine, failures):
    """Let the next renewals fail so often; return what tells of one that worked after them."""
    renew, left, worked = mine.renew, [failures], threading.Event()

    def troubled():
        if left[0]:
            left[0] -= 1
            raise Away("S3 is away")
        renew()
        worked.set()

    monkeypatch.setattr(mine, "renew", troubled)
    return worked


def test_a_lease_outlives_renewals_that_fail_and_is_kept_when_the_store_is_back(store, clock, monkeypatch, caplog):
    mine, lost = lease(store, clock, "a"), []
    mine.acquire()
    worked = renewed_after(monkeypatch, mine, failures=4)
    with renewing(mine, every=0.01, lost=lost.append, give_up=timedelta(seconds=60)):
        assert worked.wait(20)
    assert lost == []
    assert [text for text in caplog.messages if "cannot be renewed" in text] == [
        "the lease stream cannot be renewed, trying again every 0.0 s: S3 is away",
        "the lease stream cannot be renewed, trying again every 0.0 s: over, after 0 s",
    ]
    mine.check()


def test_a_lease_that_was_not_renewed_for_its_whole_life_counts_as_lost_and_says_so(store, clock, monkeypatch):
    mine, lost, told = lease(store, clock, "a"), [], threading.Event()
    mine.acquire()
    renewed_after(monkeypatch, mine, failures=10_000)

    def tell(fenced):
        lost.append(fenced)
        told.set()

    with renewing(mine, every=0.01, lost=tell, give_up=timedelta(seconds=0.05)):
        assert told.wait(20)
    (fenced,) = lost
    assert "could not be renewed for 0 s and has ended (S3 is away)" in str(fenced)


def test_without_an_end_a_lease_is_asked_for_until_the_store_is_back(store, clock, monkeypatch):
    mine, lost = lease(store, clock, "a"), []
    mine.acquire()
    worked = renewed_after(monkeypatch, mine, failures=50)
    with renewing(mine, every=0.001, lost=lost.append):
        assert worked.wait(20)
    assert lost == []
