"""Whatever a lake has been through, a vacuum deletes nothing that counts or that a reader may still want, and in the end the rest."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.log_checkpoint import fold
from ingestion.vacuum.plan import Retention, VacuumKind
from ingestion.vacuum.run import SEEN, retention, vacuum
from stillpoint.errors import InvalidSettings, LeaseHeld
from stillpoint.events.types import USER_COLUMNS
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease
from stillpoint.messages import Kind
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import Intent, Release, Route, State
from stillpoint.settings import Settings
from tests.support.wellness import FEATURES

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WANTED = Retention(grace=DAY, quarantine=30 * DAY, served=30 * DAY, releases=10 * DAY)


class Killed(BaseException):
    """Stands for the end of a process."""


class Timed(LocalObjects):
    """A folder whose files are as old as a clock of the test says, of a process that may be killed at a deletion."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder, self.now = folder, BEGAN
        self.left: int | None = None

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        self._stamp(key)

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        self._stamp(key)

    def delete(self, key: str) -> None:
        if self.left is not None and not key.startswith("leases/"):
            self.left -= 1
            if self.left < 0:
                raise Killed
        super().delete(key)

    def _stamp(self, key: str) -> None:
        os.utime(self.folder / key, (self.now.timestamp(), self.now.timestamp()))


class World:
    """A lake with writers, readers and jobs, at a moment that only the test moves."""

    def __init__(self, folder: Path) -> None:
        self.objects = Timed(folder)
        self.lake = Lake(self.objects, FEATURES)
        self.number = 0
        self.readers: list[tuple[datetime, set[str]]] = []
        self.jobs: list[tuple[Lease, set[str]]] = []
        self.unfinished: list[CommittedFile] = []

    @property
    def now(self) -> datetime:
        return self.objects.now

    def write(self, dataset: str = "users", writer: str = "stream-q") -> CommittedFile:
        self.number += 1
        rows = [{"user_id": "u", "signed_up_at": self.now, "subscribed": True, "push_opt_in": False, "updated_at": self.now}]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=USER_COLUMNS) if dataset == "users" else None
        name = f"{writer}-{self.number:06d}"
        if table is not None:
            return self.lake.write(dataset, self.now.date(), name, table)
        path = f"{dataset}/date={self.now.date().isoformat()}/{name}.parquet"
        self.objects.put(path, b"rows")
        return CommittedFile(dataset=dataset, date=self.now.date(), path=path, rows=1)

    def commit(self, *files: CommittedFile, writer: str = "stream-q", supersedes: tuple[str, ...] = ()) -> None:
        self.number += 1
        self.lake.commit(Commit(writer=writer, sequence=self.number, at=self.now, files=files, supersedes=supersedes))

    def live(self) -> set[str]:
        return {
            file.path for name in ("users", "served", "quarantine") for file in Lake(self.objects, FEATURES).files(name)
        }

    def there(self) -> set[str]:
        return {key for key in self.objects.list("") if key.endswith(".parquet")}

    def vacuum(self, **options: Any) -> Any:
        return vacuum(Lake(self.objects, FEATURES), WANTED, clock=lambda: self.now, **options)

    @contextmanager
    def killed_after(self, deletions: int) -> Iterator[None]:
        self.objects.left = deletions
        with suppress(Killed):
            yield
        self.objects.left = None
        self.objects.now += HOUR  # the leases of the killed run end


STEPS = ("write", "write", "killed write", "slow write", "end of slow write", "compact", "compact", "erase", "job", "job", "end of job", "fold", "vacuum", "vacuum", "killed vacuum", "dry run")  # fmt: skip


@settings(max_examples=20)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([0, 0, 1, 1, 7, 30])), min_size=25, max_size=40),
    data=st.data(),
)
def test_a_vacuum_deletes_nothing_that_counts_or_that_who_listed_it_may_still_read(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    world = World(tmp_path_factory.mktemp("lake"))
    for step, hours in steps:
        world.objects.now += hours * HOUR
        for lease, _ in world.jobs:
            lease.renew()
        live = world.live()
        world.readers.append((world.now, live))  # somebody always begins to read
        if step == "write":
            world.commit(world.write())
        elif step == "killed write":
            world.write()
        elif step == "slow write" and not world.unfinished:
            world.unfinished.append(world.write())
            slow = world.now
        elif step == "end of slow write" and world.unfinished:
            file = world.unfinished.pop()
            if world.now - slow < DAY:  # a writer that is slower must announce itself
                world.commit(file)
        elif step == "compact" and len(live) > 1:
            chosen = tuple(data.draw(st.lists(st.sampled_from(sorted(live)), min_size=1, unique=True)))
            world.commit(world.write(writer="merge-x"), writer="merge-x", supersedes=chosen)
        elif step == "erase" and live:
            world.commit(writer="erase-x", supersedes=(data.draw(st.sampled_from(sorted(live))),))
        elif step == "job":
            lease = Lease(world.objects, f"under_way/{world.number}-{len(world.jobs)}", holder="job", ttl=1_000 * DAY, clock=lambda: world.now)  # fmt: skip
            lease.acquire()
            world.jobs.append((lease, live))
        elif step == "end of job" and world.jobs:
            world.jobs.pop()[0].release()
        elif step == "fold":
            fold(Lake(world.objects, FEATURES), before=world.now - HOUR, fewest=2)
        elif step == "vacuum":
            world.vacuum()
        elif step == "killed vacuum":
            with world.killed_after(data.draw(st.integers(0, 3))):
                world.vacuum()
        elif step == "dry run":
            before = set(world.objects.list(""))
            world.vacuum(dry_run=True)
            assert set(world.objects.list("")) == before
        there = world.there()
        assert world.live() <= there
        world.readers = [(at, paths) for at, paths in world.readers if world.now - at < DAY]
        for _, paths in [*world.readers, *world.jobs]:
            assert paths <= there
    for lease, _ in world.jobs:
        lease.release()
    for _ in range(3):
        world.objects.now += 2 * DAY
        world.vacuum()
    assert world.there() == world.live()


def test_a_dry_run_says_by_kind_what_a_run_then_deletes(tmp_path: Path) -> None:
    world = World(tmp_path)
    old, new, killed = world.write(), world.write(), world.write()
    world.commit(old, new)
    world.commit(writer="erase-x", supersedes=(old.path,))
    expected = (tmp_path / old.path).stat().st_size
    world.vacuum()  # from now on the killed write is known
    world.objects.now += DAY + HOUR
    told = world.vacuum(dry_run=True)
    assert told.files == {VacuumKind.SUPERSEDED: 1, VacuumKind.UNFINISHED: 1}
    assert told.bytes[VacuumKind.SUPERSEDED] == expected
    assert world.there() == {old.path, new.path, killed.path}
    assert world.vacuum() == told
    assert world.there() == {new.path}


def test_a_name_that_its_writer_may_write_again_stays_and_so_does_what_is_not_ours(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.commit(world.write())
    again = world.write(writer="mapping-3-abcdef")
    world.objects.put("notes/date=2026-01-01/stream-mine.parquet", b"mine")
    for _ in range(3):
        world.objects.now += 10 * DAY
        world.vacuum()
    assert {again.path, "notes/date=2026-01-01/stream-mine.parquet"} <= world.there()


@pytest.mark.parametrize("dataset", ["served", "quarantine"])
def test_days_past_their_retention_are_taken_out_first_and_deleted_when_nobody_can_be_reading_them(
    tmp_path: Path, dataset: str
) -> None:
    world = World(tmp_path)
    old = world.write(dataset)
    world.commit(old)
    table = CommittedFile(dataset=dataset, date=world.now.date(), path=f"tables/{dataset}/date={world.now.date()}/rows.parquet", rows=1)  # fmt: skip
    world.objects.put(table.path, b"rows")
    world.commit(table)
    world.objects.now += 31 * DAY
    new = world.write(dataset)
    world.commit(new)
    told = world.vacuum()
    kind = VacuumKind.SERVED if dataset == "served" else VacuumKind.QUARANTINE
    assert (told.files, told.bytes) == ({kind: 2}, {kind: 8})
    assert world.live() == {new.path}
    assert world.there() == {old.path, table.path, new.path}
    world.objects.now += DAY + HOUR
    assert world.vacuum().files == {VacuumKind.SUPERSEDED: 2}
    assert world.there() == {new.path}


def released(book: ObjectReleaseBook, number: int, model: str, states: list[State], at: datetime) -> None:
    route = Route(model_uri=f"models/{model}.tar.gz", sha256="0" * 64)
    name = f"r{number:04d}"
    common: dict[str, Any] = {"id": name, "colour": Colour.GREEN, "mapping_version": 1, "feature_service": "s"}
    book.intend(Intent(**common, routes={Kind.TODAY: route}, at=at, by="t", why="w"))
    for key in (f"releases/{name}/registry.pb", f"releases/{name}/read_plan.json", route.model_uri):
        book.objects.put(key, b"x")
    book.record(
        Release(
            **common,
            registry=f"releases/{name}/registry.pb",
            project="p",
            connection="c",
            registry_sha256="0" * 64,
            definitions_sha256="0" * 64,
            read_plan=f"releases/{name}/read_plan.json",
            read_plan_sha256="0" * 64,
            encoder_sha256="0" * 64,
            routes={Kind.TODAY: route},
            snapshot_id="s",
            metrics={},
            created_at=at,
        )
    )
    for state in states:
        book.enter(name, state, at=at, by="t", why="w")


def test_what_only_ended_releases_used_goes_and_what_a_rollback_or_another_release_needs_stays(tmp_path: Path) -> None:
    world = World(tmp_path)
    book = ObjectReleaseBook(world.objects)
    live = [State.PREPARING, State.PREPARED, State.CHECKED, State.LIVE]
    released(book, 1, "alone", [*live, State.ROLLBACK_TARGET, State.RETIRED], world.now)
    released(book, 2, "shared", [State.PREPARING, State.FAILED], world.now)
    released(book, 3, "shared", [*live, State.ROLLBACK_TARGET], world.now)
    released(book, 4, "live", live, world.now)
    world.objects.put("models/never-released.tar.gz", b"x")
    world.objects.now += 9 * DAY
    assert world.vacuum().files == {}
    released(book, 5, "young", [State.PREPARING, State.FAILED], world.now)
    before = set(world.objects.list("releases/")) | set(world.objects.list("models/"))
    world.objects.now += 2 * DAY
    assert world.vacuum().files == {VacuumKind.RELEASES: 5}
    left = set(world.objects.list("releases/")) | set(world.objects.list("models/"))
    assert before - left == {
        "models/alone.tar.gz",
        *(f"releases/{name}/{part}" for name in ("r0001", "r0002") for part in ("registry.pb", "read_plan.json")),
    }
    assert len(ObjectReleaseBook(world.objects).histories()) == 5


def test_what_a_killed_fold_left_goes(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(4):
        world.commit(world.write(), writer="daily-x")
    world.objects.now += 2 * HOUR
    with world.killed_after(1):
        fold(world.lake, before=world.now - HOUR, fewest=2)
    world.objects.now += 2 * DAY
    assert world.vacuum().files == {VacuumKind.CHECKPOINTS: 3}
    assert list(world.objects.list("commits/")) == []
    assert len(world.live()) == 4


def test_beside_a_release_verb_nothing_is_done_and_it_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    lease = Lease(world.objects, "release", holder="stillpoint release prepare", ttl=DAY, clock=lambda: world.now)
    lease.acquire()
    with pytest.raises(LeaseHeld, match="stillpoint release prepare"):
        world.vacuum()
    assert SEEN not in list(world.objects.list(""))


def test_a_retention_shorter_than_the_rollback_window_is_refused_in_one_sentence() -> None:
    given_settings = Settings(_env_file=None, rollback_keep=3 * 86_400, served_days=2)
    with pytest.raises(InvalidSettings) as refused:
        retention(given_settings)
    assert str(refused.value) == (
        "the retention of served is 2 days, 0:00:00, shorter than the rollback window of 3 days, 0:00:00 "
        "(STILLPOINT_ROLLBACK_KEEP), so a rollback could miss what it needs; keep it at least that long"
    )
    assert retention(Settings(_env_file=None)).served == 90 * DAY
