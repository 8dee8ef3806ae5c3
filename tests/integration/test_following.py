"""A serving process keeps to the live release, shows that it lives, and renews what changes within a release."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.live import watcher as module
from inference.live.loaded_release import LoadedRelease, load, with_fresh_contents
from inference.live.renewal import RETRY_SECONDS
from inference.live.watcher import LiveReleaseWatcher
from stillpoint.catalogue import notify_change, withdraw
from stillpoint.clock import system_clock, to_micros
from stillpoint.errors import ReleaseRefused, StackUnavailable
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases.presence import Notification, Notifications, WorkerKind, notify, present
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, axis, hand_made
from tests.support.wellness import CONTENT_PROFILES, FEATURES


@pytest.fixture
def made(tmp_path: Path, redis_server: RedisServer, unique: str) -> HandMade:
    connection = redis_server.connection_string
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    settings = Settings(
        _env_file=None,
        home=tmp_path,
        lake=lake.root,
        redis_green=connection,
        redis_blue=connection,
        redis_serving=connection,
    )
    made = hand_made(lake, settings, project=unique)
    made.point()
    return made


class World:
    """A follower whose clock of refreshes, and whose loading, a test decides."""

    def __init__(self, made: HandMade) -> None:
        self.made = made
        self.may_load = threading.Event()
        self.may_load.set()
        self.seconds = 0.0
        self.refuse = False
        self.client = connect(made.settings.redis_serving.get_secret_value())
        self.looks = 0
        self.following = LiveReleaseWatcher(
            self,  # type: ignore[arg-type]
            self._load,
            redis=self.client,
            kind=WorkerKind.WORKER,
            address="test",
            clock=system_clock,
            refresh=self._refresh,
            refresh_seconds=60,
            monotonic=lambda: self.seconds,
        )

    def live(self) -> Any:
        self.looks += 1
        return self.made.book.live()

    def announced(self) -> Any:
        return self.made.book.announced()

    def until(self, true: Callable[[], Any]) -> None:
        end = time.monotonic() + 20
        while not true():
            assert time.monotonic() < end
            time.sleep(0.01)

    def listening(self) -> None:
        """Wait until the follower listens and has looked for what it may have missed before."""
        self.until(lambda: self.looks >= 2)

    def _load(self, release: str, generation: int) -> LoadedRelease:
        self.may_load.wait(20)
        made = self.made
        return load(made.book, made.lake, made.settings, release, generation, now=system_clock())

    def _refresh(self, loaded: LoadedRelease) -> LoadedRelease:
        if self.refuse:
            raise ReleaseRefused("the catalogue is empty")
        return with_fresh_contents(loaded, self.made.lake, now=system_clock())

    def listed(self) -> bool:
        return any(one.worker == self.following.worker for one in present(self.client))

    def plays_of_first(self) -> Any:
        assert self.following.current is not None
        name = CONTENT_PROFILES.feature_names[-2]
        return self.following.current.contents.columns[name][0]


@pytest.fixture
def world(made: HandMade) -> Iterator[World]:
    world = World(made)
    yield world
    world.may_load.set()
    world.following.close()


def test_a_process_that_takes_long_to_load_is_not_taken_for_dead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    world.may_load.clear()
    starting = threading.Thread(target=world.following.start)
    starting.start()
    end = time.monotonic() + 5
    while not world.listed() and time.monotonic() < end:
        time.sleep(0.02)
    assert world.listed()
    assert world.following.current is None
    world.may_load.set()
    starting.join(20)
    assert world.following.current is not None


def test_what_contents_count_is_read_anew_within_a_release_when_it_is_time(world: World) -> None:
    world.following.step()
    before = world.plays_of_first()
    us = to_micros(system_clock())
    world.made.write(CONTENT_PROFILES, [("c0000", us, us, "sleep", 300, axis("sleep"), 999, 0.5)])
    world.seconds = 59
    world.following.step()
    assert world.plays_of_first() == before
    world.seconds = 61
    world.following.step()
    assert world.plays_of_first() == 999
    assert world.following.current is not None
    assert world.following.current.generation == 1


def test_contents_that_cannot_be_read_anew_stay_as_they_were_and_are_tried_again(world: World) -> None:
    world.following.step()
    held = world.following.current
    world.refuse, world.seconds = True, 61
    world.following.step()
    assert world.following.current is held
    world.refuse, world.seconds = False, 72
    world.following.step()
    assert world.following.current is not held


def test_a_change_of_the_catalogue_is_read_at_the_next_look_and_once(world: World, made: HandMade) -> None:
    world.following.step()
    held = world.following.current
    assert held is not None
    now = system_clock()
    withdraw(made.lake, "c0000", at=now)
    world.following.step()
    assert "c0000" not in held.contents.withheld_at(to_micros(now))
    notify_change(world.client)
    world.following.step()
    current = world.following.current
    assert current is not None
    assert "c0000" in current.contents.withheld_at(to_micros(system_clock()))
    world.following.step()
    assert world.following.current is current


def test_a_catalogue_that_cannot_be_read_after_a_change_is_tried_again_after_a_pause(world: World) -> None:
    world.following.step()
    held = world.following.current
    notify_change(world.client)
    world.refuse = True
    world.following.step()
    world.refuse = False
    world.following.step()
    assert world.following.current is held
    world.seconds = RETRY_SECONDS
    world.following.step()
    assert world.following.current is not held


def generation(world: World) -> int:
    assert world.following.current is not None
    return world.following.current.generation


def test_with_nothing_to_do_the_book_is_left_alone_and_a_notification_is_followed_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 3_600.0)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    turns: list[float] = []
    wait = Notifications.wait
    monkeypatch.setattr(Notifications, "wait", lambda news, seconds: turns.append(seconds) or wait(news, seconds))  # type: ignore[func-returns-value]
    world.following.start()
    world.listening()
    looks, before = world.looks, len(turns)
    world.until(lambda: len(turns) > before + 30)
    assert world.looks == looks
    pointer = world.made.point()
    notify(world.client, Notification(what="switched", generation=pointer.generation, release=pointer.release))
    world.until(lambda: generation(world) == 2)
    assert world.looks == looks + 1


def test_a_notification_that_was_lost_costs_time_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.02)
    world.following.start()
    world.listening()
    world.made.point()
    world.until(lambda: generation(world) == 2)


def test_after_a_lost_connection_the_book_is_read_for_what_was_missed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 3_600.0)
    world.following.start()
    world.listening()
    world.made.point()
    world.client.client_kill_filter(_type="pubsub")
    world.until(lambda: generation(world) == 2)


def test_trouble_with_the_book_is_told_once_and_does_not_refuse_a_release(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.following.step()
    world.made.announce()
    monkeypatch.setattr(world.following, "_load", lambda *_: (_ for _ in ()).throw(StackUnavailable("S3 is away")))
    for _ in range(3):
        world.following.step()
    assert (world.following._refused, world.following._ready, generation(world)) == (None, None, 1)
    assert len([text for text in caplog.messages if "S3 is away" in text]) == 1
    monkeypatch.undo()
    world.following.step()
    assert world.following._ready is not None
