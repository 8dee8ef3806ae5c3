"""Does a serving process keep to the live release, show that it lives, and renew what changes within a release?"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference.live import watcher as module
from inference.live.loaded_release import LoadedRelease, load, refreshed
from inference.live.renewal import RETRY_SECONDS
from inference.live.watcher import Following
from stillpoint.catalogue import tell, withdraw
from stillpoint.clock import system_clock, to_micros
from stillpoint.errors import ReleaseRefused
from stillpoint.features.declarations import CONTENT_PROFILES
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases.presence import WorkerKind, present
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, axis, hand_made


@pytest.fixture
def made(tmp_path: Path, redis_server: RedisServer, unique: str) -> HandMade:
    connection = redis_server.connection_string
    lake = Lake(LocalObjects(tmp_path / "lake"))
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
        self.following = Following(
            made.book,
            self._load,
            redis=self.client,
            kind=WorkerKind.WORKER,
            address="test",
            clock=system_clock,
            refresh=self._refresh,
            refresh_seconds=60,
            monotonic=lambda: self.seconds,
        )

    def _load(self, release: str, generation: int) -> LoadedRelease:
        self.may_load.wait(20)
        made = self.made
        return load(made.book, made.lake, made.settings, release, generation, now=system_clock())

    def _refresh(self, loaded: LoadedRelease) -> LoadedRelease:
        if self.refuse:
            raise ReleaseRefused("the catalogue is empty")
        return refreshed(loaded, self.made.lake, now=system_clock())

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
    tell(world.client)
    world.following.step()
    current = world.following.current
    assert current is not None
    assert "c0000" in current.contents.withheld_at(to_micros(system_clock()))
    world.following.step()
    assert world.following.current is current


def test_a_catalogue_that_cannot_be_read_after_a_change_is_tried_again_after_a_pause(world: World) -> None:
    world.following.step()
    held = world.following.current
    tell(world.client)
    world.refuse = True
    world.following.step()
    world.refuse = False
    world.following.step()
    assert world.following.current is held
    world.seconds = RETRY_SECONDS
    world.following.step()
    assert world.following.current is not held
