"""A user is gone for good although streams, fills and backfills that know of the user are running."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pyarrow.compute as pc
import pytest

from ingestion.kinesis_shards import Record
from stillpoint.clock import to_micros
from stillpoint.errors import StackUnavailable
from stillpoint.events.types import Verdict
from stillpoint.lake.commits import Commit
from stillpoint.leases.active_jobs import active_jobs, announce_job
from stillpoint.leases.lease import Lease
from tests.support.batch_world import Parts
from tests.support.known_users import OTHER, USER


def test_replays_and_late_events_up_to_the_erasure_are_no_ops_and_a_return_is_allowed(home):
    home.processor._lease.release()
    erased_at = home.now + timedelta(seconds=10)  # after the events that are replayed, however quick the home is made
    home.erase(clock=lambda: erased_at)
    home.processor = home.world.processor()
    later = erased_at + timedelta(seconds=5)
    back = home.world.searches([7], USER)[0]
    document = json.loads(back.data) | {"event_timestamp": later.isoformat()}
    back = back._replace(arrived_us=to_micros(later), data=json.dumps(document).encode())
    fast = home.world.searches([50], USER)[0]._replace(arrived_us=to_micros(home.now))
    broken = Record("s0", "80", USER, to_micros(home.now), b'{"user_id": "u1"')
    home.batch(1, [*home.world.searches([1, 2], USER), fast, broken, *home.world.searches([8], OTHER)])
    assert home.world.reports[-1].verdicts == {Verdict.ERASED: 4, Verdict.ON_TIME: 1}
    assert home.found(USER) == []
    home.batch(2, [back])
    assert home.world.reports[-1].verdicts == {Verdict.ON_TIME: 1}
    assert home.lake.read("events").filter(pc.equal(home.lake.read("events")["user_id"], USER)).num_rows == 1


def test_a_stream_that_runs_obeys_before_anything_is_deleted(home):
    writing, go_on = threading.Event(), threading.Event()

    class Slow(Parts):
        def repartition(self, *how):
            writing.set()
            assert go_on.wait(10)
            return super().repartition(*how)

    batch = threading.Thread(target=lambda: home.processor.process(Slow(home.world.searches([5], USER), 1), 1))
    batch.start()
    assert writing.wait(10)
    done = []
    erasing = threading.Thread(target=lambda: done.append(home.erase(clock=lambda: home.world.time)))
    erasing.start()
    time.sleep(0.5)
    assert not done, "the batch under way does not know of the tombstone yet"
    go_on.set()
    batch.join(20)
    while not done and erasing.is_alive():
        home.processor.acknowledge_if_idle()
        time.sleep(0.05)
    erasing.join(20)
    assert done
    assert home.found(USER) == []


def test_a_stream_that_does_not_obey_is_named(home):
    with pytest.raises(
        StackUnavailable, match=r"test has not obeyed the tombstone within 0 s; .*run `stillpoint erase` again"
    ):
        home.erase(clock=lambda: home.world.time, wait_seconds=0.3)


def test_a_fill_under_way_ends_first(home):
    home.processor._lease.release()
    fill = Lease(
        home.lake.objects, "release", holder="a fill", ttl=timedelta(minutes=5), clock=lambda: datetime.now(UTC)
    )
    fill.acquire()
    done = []
    erasing = threading.Thread(target=lambda: done.append(home.erase()))
    erasing.start()
    time.sleep(1.0)
    assert not done
    home.made.user(USER, sequence_id=1)  # what a fill wrote from files that it had opened before
    fill.release()
    erasing.join(20)
    assert done
    assert home.found(USER) == []


def test_a_backfill_that_read_before_is_waited_for_and_its_rows_go_too(home):
    home.processor._lease.release()
    done, clock = [], lambda: datetime.now(UTC)
    rows = home.lake.read("features/session_bounce_rates")
    with announce_job(home.lake.objects, "stillpoint backfill", clock=clock):
        with pytest.raises(
            StackUnavailable, match=r"stillpoint backfill, process \d+ .* may still write rows of the user"
        ):
            home.erase(wait_seconds=0.3)
        erasing = threading.Thread(target=lambda: done.append(home.erase()))
        erasing.start()
        time.sleep(0.7)
        assert not done
        file = home.lake.write("features/session_bounce_rates", home.now.date(), "backfill-late", rows)
        home.lake.commit(Commit(writer="backfill-late", sequence=0, at=home.now, files=(file,)))
    erasing.join(20)
    assert done
    assert home.found(USER) == []
    assert active_jobs(home.lake.objects, clock=clock) == []
    assert list(home.lake.objects.list("leases/under_way/")) == []


def test_a_run_that_was_killed_is_waited_for_no_longer_than_its_lease(home):
    def clock():
        return datetime.now(UTC)

    Lease(home.lake.objects, "under_way/k", holder="killed", ttl=timedelta(seconds=30), clock=clock).acquire()
    assert [one.holder for one in active_jobs(home.lake.objects, clock=clock)] == ["killed"]
    assert active_jobs(home.lake.objects, clock=lambda: datetime.now(UTC) + timedelta(seconds=31)) == []
