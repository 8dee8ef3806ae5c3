"""The steps of a release verb share what they have read, and a verb stops when it may not go on."""

import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from release.context import ReleaseContext, exclusive
from release.states import rollback_target
from stillpoint.errors import Fenced, LeaseHeld, ReleaseRefused, StackUnavailable
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import Intent, State
from stillpoint.settings import Settings
from tests.support.wellness import FEATURES

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Counted(LocalObjects):
    """Objects that count what is read of each."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: Counter[str] = Counter()

    def get(self, key: str) -> bytes:
        self.read[key] += 1
        return super().get(key)


def context(objects: Any) -> ReleaseContext:
    return ReleaseContext(
        settings=Settings(_env_file=None),
        lake=Lake(objects, FEATURES),
        serving=None,
        connect=lambda connection: None,
        clock=lambda: NOW,
        operator="ann@test",
    )


def test_what_never_changes_is_read_once_in_all_steps(tmp_path: Path) -> None:
    objects = Counted(tmp_path)
    book = ObjectReleaseBook(objects)
    for number in range(1, 6):
        book.intend(
            Intent(
                id=f"r{number:04d}",
                colour=Colour.GREEN,
                mapping_version=1,
                routes={},
                feature_service="ranker_v1",
                at=NOW,
                by="ann",
                why="test",
            )
        )
        book.enter(f"r{number:04d}", State.PREPARING, at=NOW, by="ann", why="test")
    objects.read.clear()
    held = context(objects)
    for _ in range(3):
        assert rollback_target(held.book) is None
        held.book.histories()
    assert set(objects.read.values()) == {1}
    assert len(objects.read) == 10
    assert replace(held, operator="bob@test").book is not held.book


class Troubled(LocalObjects):
    """Objects whose writes fail while `away` is set."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.away = False
        self.failed = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        if self.away:
            self.failed.set()
            raise StackUnavailable("S3 is away")
        super().put(key, data)


def test_a_verb_goes_on_when_a_put_of_its_heartbeat_failed(tmp_path: Path) -> None:
    objects = Troubled(tmp_path)
    with exclusive(replace(context(objects), lease_seconds=2.0), "prepare") as held:
        objects.away = True
        assert objects.failed.wait(20)
        objects.away = False
        beat = tmp_path / "leases/release/heartbeat.json"
        before = beat.stat().st_mtime_ns
        while beat.stat().st_mtime_ns == before:
            time.sleep(0.01)
        held.check()
        with pytest.raises(LeaseHeld), exclusive(context(objects), "switch"):
            pass


def test_a_verb_that_could_not_renew_its_lease_stops_before_it_destroys_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = Troubled(tmp_path)
    with exclusive(replace(context(objects), lease_seconds=0.2), "retire") as held:
        objects.away = True
        while not any("could not be renewed" in text for text in caplog.messages):
            time.sleep(0.01)
        objects.away = False
        for ask in (held.require, held.check):
            with pytest.raises(Fenced, match=r"could not be renewed .* and has ended .S3 is away."):
                ask()


def test_a_lease_that_cannot_be_given_up_does_not_hide_what_the_verb_raised(tmp_path: Path) -> None:
    objects = Troubled(tmp_path)

    def verb() -> None:
        with exclusive(context(objects), "check"):
            objects.away = True
            raise ReleaseRefused("as the verb says")

    with pytest.raises(ReleaseRefused, match="as the verb says"):
        verb()
