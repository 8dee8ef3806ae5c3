"""A switch waits for those who serve, names those who do not follow, and goes on without the dead."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release import dual_write
from release.context import ReleaseContext
from release.gate import CheckResult, Report, report_key, write_report
from release.prepare import prepare
from release.retire import retire
from release.switch import roll_back, switch
from stillpoint.clock import system_clock
from stillpoint.errors import ReleaseRefused
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease
from stillpoint.releases.colour import Colour
from stillpoint.releases.presence import Notifications, Presence, WorkerKind, beat
from stillpoint.releases.records import State
from stillpoint.releases.write_targets import ACKNOWLEDGED_KEY, Acknowledgement, Target, read_control
from stillpoint.settings import Settings
from tests.support.release_world import World, context_for
from tests.support.wellness import FEATURES


class Follower:
    """A serving worker reduced to what a switch sees: it polls the book, loads what is announced, swaps, beats."""

    def __init__(
        self, context: ReleaseContext, name: str, *, kind: WorkerKind = WorkerKind.SERVICE, deaf: bool = False
    ) -> None:
        self.context, self.name, self.kind, self.deaf = context, name, kind, deaf
        self.loads, self.swaps, self.lives = True, True, True
        self.refusal: str | None = None
        self.swapped_at: dict[int, float] = {}
        self.heard = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        generation, release, loaded = None, None, None
        with Notifications(self.context.serving) as notifications:
            while not self._ended.is_set():
                pointer, announced = self.context.book.live(), self.context.book.announced()
                refused = None
                if announced is not None:
                    refused = self.refusal
                    if self.loads and not refused:
                        loaded = announced.release
                if pointer is not None and self.swaps and pointer.generation != generation:
                    generation, release = pointer.generation, pointer.release
                    self.swapped_at[generation] = time.monotonic()
                if self.lives:
                    beat(
                        self.context.serving,
                        Presence(
                            worker=self.name,
                            kind=self.kind,
                            pid=1,
                            address="127.0.0.1:1",
                            generation=generation,
                            release=release,
                            loaded=loaded,
                            refused=refused,
                            at=system_clock(),
                        ),
                        ttl_seconds=0.5,
                    )
                if self.deaf:
                    time.sleep(0.1)
                elif notifications.wait(0.1) is not None:
                    self.heard += 1


@pytest.fixture
def context(tmp_path: Path, redis_factory: Any) -> ReleaseContext:
    connection = redis_factory().connection_string
    settings = Settings(
        _env_file=None,
        home=tmp_path / "home",
        lake=str(tmp_path / "lake"),
        **{f"redis_{name}": connection for name in ("green", "blue", "serving", "state", "sandbox")},
    )
    return context_for(settings, Lake(LocalObjects(tmp_path / "lake"), FEATURES), load_seconds=1.5)


@pytest.fixture
def followers(context: ReleaseContext) -> Iterator[list[Follower]]:
    started: list[Follower] = []
    yield started
    for follower in started:
        follower.stop()


@pytest.fixture
def second(context: ReleaseContext) -> str:
    """r0001 live and r0002 checked by a report that is not what these tests are about."""
    world = World(context.lake)
    world.fill()
    for version in (1, 2):
        world.mapping(version)
        release = prepare(context, world.wanted(version))
        key = report_key(release.id, context.now())
        result = CheckResult(name="test", passed=True, found="1", expected="1")
        report = Report(release=release.id, against=None, at=context.now(), by="test", results=(result,))
        write_report(context.lake.objects, key, report)
        context.book.enter(release.id, State.CHECKED, at=context.now(), by="test", why="test", report=key)
        if version == 1:
            switch(context, release.id, why="first")
    return "r0002"


def test_workers_load_before_the_generation_and_acknowledge_after_it_within_a_second(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    followers += [Follower(context, f"w{number}") for number in range(3)]
    time.sleep(0.4)
    done = switch(context, second, why="switch")
    assert len(done.workers) == 3
    assert (done.died, done.hanging) == ((), ())
    assert done.switch_seconds < 1
    assert all(follower.heard >= 2 for follower in followers)
    assert all(2 in follower.swapped_at for follower in followers)


def test_a_lost_notification_is_made_up_for_by_polling(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    followers.append(Follower(context, "deaf", deaf=True))
    time.sleep(0.4)
    assert len(switch(context, second, why="switch").workers) == 1


def test_a_worker_that_hangs_before_loading_is_named_and_nothing_is_switched(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    followers += [Follower(context, "good"), Follower(context, "stuck")]
    followers[1].loads = False
    time.sleep(0.4)
    with pytest.raises(
        ReleaseRefused, match=r"service stuck \(process 1 at 127.0.0.1:1\) has not loaded it within 2 s"
    ):
        switch(context, second, why="switch")
    live = context.book.live()
    assert live is not None
    assert live.release == "r0001"
    assert context.book.announced() is None
    followers[1].swaps = False
    done = switch(context, second, why="switch", without_hanging=True)
    assert done.hanging == ("service stuck (process 1 at 127.0.0.1:1)",)


def test_a_worker_that_refuses_to_load_is_quoted(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    followers.append(Follower(context, "picky"))
    followers[0].refusal = "the canary u1 has sequence id 7, expected 3"
    followers[0].loads = False
    time.sleep(0.4)
    with pytest.raises(ReleaseRefused, match="refuses to load it: the canary u1 has sequence id 7, expected 3"):
        switch(context, second, why="switch")


def test_a_worker_that_dies_meanwhile_is_named_and_does_not_hold_up_the_switch(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    followers += [Follower(context, "good"), Follower(context, "dying")]
    followers[1].loads = False
    time.sleep(0.4)
    followers[1].lives = False
    done = switch(context, second, why="switch")
    assert done.died == ("service dying (process 1 at 127.0.0.1:1)",)
    assert len(done.workers) == 1


def test_a_frozen_lambda_is_not_waited_for(context: ReleaseContext, second: str, followers: list[Follower]) -> None:
    followers.append(Follower(context, "frozen", kind=WorkerKind.LAMBDA))
    followers[0].loads = followers[0].swaps = False
    time.sleep(0.4)
    done = switch(context, second, why="switch")
    assert done.load_seconds < 1
    assert done.hanging == ()


def test_a_colour_is_not_emptied_while_somebody_answers_from_it(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    followers.append(Follower(context, "behind"))
    time.sleep(0.4)
    followers[0].swaps = False
    switch(context, second, why="switch")
    with pytest.raises(
        ReleaseRefused, match=r"service behind .* still answers with r0001; restart it, then run the same"
    ):
        retire(context, "r0001", why="room")
    assert context.online(Colour.GREEN).exists("stillpoint:sentinel:stillpoint_green")
    followers[0].swaps = True
    retire(context, "r0001", why="room")
    assert not context.online(Colour.GREEN).exists("stillpoint:sentinel:stillpoint_green")


def test_a_rollback_does_not_wait_for_a_hanging_worker_to_load(
    context: ReleaseContext, second: str, followers: list[Follower]
) -> None:
    switch(context, second, why="switch")
    followers.append(Follower(context, "stuck"))
    time.sleep(0.4)
    followers[0].loads = followers[0].swaps = False
    done = roll_back(context, why="worse")
    assert done.hanging == ("service stuck (process 1 at 127.0.0.1:1)",)
    assert done.release.id == "r0001"


def test_the_barrier_waits_for_a_running_stream_and_names_one_that_does_not_obey(context: ReleaseContext) -> None:
    from datetime import timedelta

    objects = context.lake.objects
    target = Target(colour=Colour.GREEN, project="stillpoint_green", views=("biometrics",))
    assert dual_write.aim(context, (target,)) == 1, "without a stream the barrier is met at once"
    stream = Lease(objects, "stream", holder="stillpoint stream 4711", ttl=timedelta(seconds=60), clock=context.clock)
    stream.acquire()
    with pytest.raises(ReleaseRefused, match="stillpoint stream 4711 has not obeyed control generation 2 within 0 s"):
        dual_write.aim(replace(context, barrier_seconds=0.3), ())
    assert dual_write.targets_without(read_control(objects), Colour.GREEN) == ()

    def obey() -> None:
        time.sleep(0.3)
        said = Acknowledgement(generation=2, writer="stream-1", batch=7, at=context.now())
        objects.put(ACKNOWLEDGED_KEY, said.model_dump_json().encode())

    thread = threading.Thread(target=obey)
    thread.start()
    assert dual_write.aim(context, ()) == 2, "the same targets again wait for the same generation"
    thread.join()
