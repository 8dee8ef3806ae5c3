"""The idle colour equals the live one at the end of a fill, while events flow all the time."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from release.check import check, side
from release.checks.shared_views import compare, shared
from release.context import ReleaseContext
from release.gate import Thresholds
from release.prepare import prepare
from release.switch import switch
from stillpoint.clock import system_clock
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.leases.lease import Lease
from stillpoint.releases.write_targets import ACKNOWLEDGED_KEY, Acknowledgement, read_control
from stillpoint.settings import Settings
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.release_world import USERS, World, context_for
from tests.support.wellness import FEATURES, STREAMED_VIEWS


class Stream:
    """A stream reduced to what a fill sees: batches go online into every target, then into the lake, then it answers."""

    def __init__(self, context: ReleaseContext, world: World) -> None:
        self.context, self.world = context, world
        self.batches = 0
        self.obeys = True
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._lease = Lease(
            context.lake.objects, "stream", holder="test stream", ttl=timedelta(seconds=30), clock=context.clock
        )
        self._lease.acquire()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._lease.release()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        lake = Lake(self.context.lake.objects, FEATURES)
        try:
            while not self._ended.is_set():
                self._batch(lake)
        except BaseException as failure:  # noqa: BLE001 - told by stop()
            self._failure = failure

    def _batch(self, lake: Lake) -> None:
        control = read_control(lake.objects)
        targets = control.targets if self.obeys else control.targets[:1]
        now = system_clock()
        files = []
        for view in STREAMED_VIEWS:
            users = [USERS[(self.batches * 3 + place) % len(USERS)] for place in range(5)]
            rows = [self.world.row(view, user, now, self.batches) for user in users]
            table = pa.Table.from_pylist(rows, schema=feature_columns(view))
            for target in targets:
                OnlineWriter(self.context.online(target.colour), target.project).write(ViewLayout.of(view), table)
            name = f"stream-{self.batches}-{view.name}"
            files += [lake.write(feature_dataset(view), day, name, part) for day, part in by_date(table)]
        lake.commit(Commit(writer="stream-test", sequence=self.batches, at=now, files=tuple(files)))
        said = Acknowledgement(generation=control.generation, writer="stream-test", batch=self.batches, at=now)
        lake.objects.put(ACKNOWLEDGED_KEY, said.model_dump_json().encode())
        self.batches += 1
        self._ended.wait(0.05)


THRESHOLDS = Thresholds(
    latency_p99_ms=1000, daily_age_hours=72, latency_reads=20, digest_pause_seconds=0.05, digest_reads=40
)


@pytest.fixture
def context(tmp_path: Path, redis_factory: Any) -> ReleaseContext:
    green, blue = redis_factory().connection_string, redis_factory().connection_string
    settings = Settings(
        _env_file=None,
        home=tmp_path / "home",
        lake=str(tmp_path / "lake"),
        redis_blue=blue,
        **{f"redis_{name}": green for name in ("green", "serving", "state", "sandbox")},
    )
    return context_for(
        settings, Lake(LocalObjects(tmp_path / "lake"), FEATURES), lease_seconds=10.0, barrier_seconds=20.0
    )


def differing(context: ReleaseContext) -> int:
    live, idle = side(context, context.book.get("r0001")), side(context, context.book.get("r0002"))
    layouts = [layout for layout in shared(live, idle) if layout.join_keys[0].name == "user_id"]
    return len(compare(live, idle, layouts, USERS, now_us=context.now_us()))


def first_live(context: ReleaseContext) -> World:
    world = World(context.lake)
    world.fill()
    world.mapping(1)
    world.mapping(2)
    prepare(context, world.wanted(1))
    assert check(context, "r0001", thresholds=THRESHOLDS).passed
    switch(context, "r0001", why="first")
    return world


def test_a_colour_filled_under_streaming_equals_the_live_one_value_for_value(context: ReleaseContext) -> None:
    world = first_live(context)
    stream = Stream(context, world)
    try:
        time.sleep(0.5)
        before = stream.batches
        prepare(replace(context, progress=lambda step: time.sleep(0.15)), world.wanted(2))
        during = stream.batches - before
        report = check(context, "r0002", thresholds=THRESHOLDS)
        assert report.passed, [result.sentence() for result in report.failures()]
    finally:
        stream.stop()
    assert during > 10, "events flowed while the colour was filled"
    assert differing(context) == 0


def test_a_stream_that_says_it_obeys_and_does_not_is_found_by_the_digest(context: ReleaseContext) -> None:
    world = first_live(context)
    stream = Stream(context, world)
    stream.obeys = False
    try:
        prepare(context, world.wanted(2))
        report = check(context, "r0002", thresholds=replace_reads(3))
    finally:
        stream.stop()
    assert "shared views" in [result.name for result in report.failures()]


def replace_reads(count: int) -> Thresholds:
    return THRESHOLDS.model_copy(update={"digest_reads": count})


def test_a_value_that_the_stream_wrote_is_never_overwritten_by_the_fill(context: ReleaseContext) -> None:
    """The fill reads the lake as it was before a newer row went online."""
    world = first_live(context)
    ahead = world.now + timedelta(seconds=30)
    view = STREAMED_VIEWS[0]

    def progress(step: str) -> None:
        if step == f"fill {view.name}":
            table = pa.Table.from_pylist([world.row(view, "u0", ahead, 63)], schema=feature_columns(view))
            OnlineWriter(context.online(context.book.get("r0001").colour.other), "stillpoint_blue").write(
                ViewLayout.of(view), table
            )

    prepare(replace(context, progress=progress), world.wanted(2))
    read = side(context, context.book.get("r0002")).reader.read(
        [view.name], {"user_id": ["u0"]}, now_us=context.now_us()
    )
    assert read.values("session_play_count") == [63]
