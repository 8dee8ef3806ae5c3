"""Do the steps of a release verb share what they have read?"""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from release.context import ReleaseContext
from release.states import rollback_target
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import Intent, State
from stillpoint.settings import Settings

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Counted(LocalObjects):
    """Objects that count what is read of each."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: Counter[str] = Counter()

    def get(self, key: str) -> bytes:
        self.read[key] += 1
        return super().get(key)


def tools(objects: Any) -> ReleaseContext:
    return ReleaseContext(
        settings=Settings(_env_file=None),
        lake=Lake(objects),
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
    held = tools(objects)
    for _ in range(3):
        assert rollback_target(held.book) is None
        held.book.histories()
    assert set(objects.read.values()) == {1}
    assert len(objects.read) == 10
    assert replace(held, operator="bob@test").book is not held.book
