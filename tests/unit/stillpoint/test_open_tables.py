"""Iceberg tables hold exactly the committed rows, whatever is compacted, erased, corrected or killed."""

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from ingestion.compact import compact, merge
from privacy.erasure.lake import LakeErasure
from stillpoint.cli.lake import lake as verb
from stillpoint.errors import CorruptData, InvalidSettings, StackUnavailable
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.open_tables import publish as publishing
from stillpoint.open_tables.catalogue import open_catalogue
from stillpoint.open_tables.plan import table_name
from stillpoint.open_tables.publish import AS_OF, FILES_SHA256, RUN, publish
from stillpoint.settings import Settings
from tests.support.large_lake import made_events
from tests.support.wellness import EVENT_COLUMNS, FEATURES

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
DAY = NOON.replace(hour=0)
KEEP = timedelta(hours=12)


class World:
    """A lake in a folder with a catalogue in SQLite beside it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            _env_file=None,
            lake=str(folder / "lake"),
            iceberg_catalogue=f"sqlite:///{folder}/catalogue.db",
            aws_endpoint_url=None,
        )
        self.lake = Lake(LocalObjects(folder / "lake"), FEATURES, EVENT_COLUMNS)
        self.catalogue: Any = open_catalogue(self.settings)
        self.now = NOON
        self.batches = 0

    def batch(self, rows: int = 20, *, day: datetime = DAY, copies: int = 0) -> None:
        """Commit events as a micro-batch does."""
        table = made_events(self.batches * 1_000, rows, 8, day)
        table = pa.concat_tables([table, table.slice(0, copies)])
        file = self.lake.write("events", day.date(), f"s-{self.batches}", table)
        self.lake.commit(Commit(writer="s", sequence=self.batches, at=self.now, files=(file,)))
        self.batches += 1

    def publish(self) -> dict[str, Any]:
        self.now += timedelta(minutes=1)
        lake = Lake(self.lake.objects, FEATURES, EVENT_COLUMNS)
        done = publish(lake, self.catalogue, namespace="open", at=self.now, keep=KEEP, named="sqlite")
        return {one.table: one for one in done}

    def table(self, name: str = "events") -> Any:
        return self.catalogue.load_table(("open", name))

    def rows(self, name: str = "events") -> list[str]:
        return sorted(map(str, self.table(name).scan().to_arrow().to_pylist()))

    def committed(self, dataset: str = "events") -> list[str]:
        return sorted(map(str, Lake(self.lake.objects, FEATURES, EVENT_COLUMNS).read(dataset).to_pylist()))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_tables_hold_the_committed_rows_and_nothing_is_published_twice(world: World) -> None:
    world.batch()
    world.batch(copies=3)
    world.lake.write("events", DAY.date(), "uncommitted", made_events(9_000, 5, 3, DAY))
    assert world.publish()["events"].added == 2
    assert world.rows() == world.committed()
    assert world.publish() == {}
    world.batch()
    assert world.publish()["events"].added == 1
    assert world.rows() == world.committed()
    summary = world.table().current_snapshot().summary
    assert summary[AS_OF] == world.now.isoformat()
    assert summary[FILES_SHA256]
    assert {name for _, name in world.catalogue.list_tables("open")} >= {"events", "served", "users", "catalogue", table_name("features/user_taste")}  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_drawn_histories_end_in_equal_rows(world: World, seed: int) -> None:
    drawn = random.Random(seed)
    for step in range(10):
        what = drawn.choice(["batch", "batch", "late", "compact", "merge", "erase", "publish"])
        if what in ("batch", "late"):
            world.batch(copies=drawn.randint(0, 2), day=DAY if what == "batch" else DAY - timedelta(days=2))
        elif what == "compact":
            compact(Lake(world.lake.objects, FEATURES, EVENT_COLUMNS), before=DAY.date(), at=world.now)
        elif what == "merge":
            merge(Lake(world.lake.objects, FEATURES, EVENT_COLUMNS), since=DAY.date(), at=world.now)
        elif what == "erase":
            user = f"user-{drawn.randint(0, 7):012d}"
            own = LakeErasure(Lake(world.lake.objects, FEATURES, EVENT_COLUMNS), frozenset({user}), f"run-{step}")
            own.supersede(at=world.now)
            world.publish()
            own.purge()
        else:
            world.publish()
            assert world.rows() == world.committed()
    world.publish()
    assert world.rows() == world.committed()


def test_a_day_that_is_replaced_at_its_path_is_published_anew(world: World) -> None:
    world.batch(day=DAY - timedelta(days=2))
    compact(world.lake, before=DAY.date(), at=NOON)
    world.publish()
    before = world.rows()
    world.batch(day=DAY - timedelta(days=2))
    compact(Lake(world.lake.objects, FEATURES, EVENT_COLUMNS), before=DAY.date(), at=NOON)
    found = world.publish()["events"]
    assert (found.added, found.removed) == (1, 1)
    assert world.rows() == world.committed() != before


def test_a_publication_killed_at_any_point_is_done_by_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.batch()
    world.publish()
    before = world.rows()
    world.batch()
    with monkeypatch.context() as patch:
        patch.setattr(type(world.catalogue), "commit_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.publish()
    assert world.rows() == before
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_expire", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.publish()
    assert world.rows() == world.committed()
    assert world.publish() == {}
    assert len(world.table().metadata.snapshots) == 2


def test_readers_without_our_code_find_the_rows_by_the_tables_metadata(world: World) -> None:
    world.batch()
    world.batch()
    world.publish()
    expected = world.committed()
    metadata = world.table().metadata_location
    assert sorted(map(str, pl.scan_iceberg(metadata).collect().to_arrow().cast(EVENT_COLUMNS).to_pylist())) == expected
    files = [task.file.file_path.removeprefix("file://") for task in world.table().scan().plan_files()]
    with duckdb.connect() as database:
        (count,) = database.execute("select count(*) from read_parquet(?)", [files]).fetchone() or (None,)
    assert count == len(expected)


def test_snapshots_expire_with_their_manifests_and_the_present_one_stays(world: World) -> None:
    for _ in range(4):
        world.batch()
        world.publish()
    assert len(world.table().metadata.snapshots) == 4
    # Iceberg stamps its snapshots by the machine's clock.
    world.now = datetime.now(UTC) + KEEP + timedelta(minutes=1)
    assert world.publish()["events"].expired == 3
    (only,) = world.table().metadata.snapshots
    named = {only.manifest_list, *(one.manifest_path for one in only.manifests(world.table().io))}
    left = {f"file://{path}" for path in Path(world.settings.lake, "iceberg/events/metadata").glob("*.avro")}
    assert left == named
    assert world.rows() == world.committed()


def test_metadata_hold_no_bounds_of_ids_and_bounds_of_times(world: World) -> None:
    world.batch()
    world.publish()
    (task,) = world.table().scan().plan_files()
    bounded = {world.table().schema().find_field(number).name for number in task.file.lower_bounds}
    assert bounded == {"event_timestamp", "arrived_at"}


def test_training_snapshots_follow_their_revisions_and_go_when_they_do(world: World) -> None:
    def keep(name: str, users: list[str]) -> None:
        path = Path(world.settings.lake, "snapshots/s-1", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"user_id": users, "label": [1] * len(users), "score": [0.5] * len(users)}), path)

    keep("rows.parquet", ["u1", "u2"])
    world.lake.put_json("snapshots/s-1/manifest.json", {"id": "s-1"})
    world.publish()
    assert len(world.rows("snapshot_s_1")) == 2
    keep("rows-1.parquet", ["u2"])
    world.lake.put_json("snapshots/s-1/manifest.json", {"id": "s-1", "revision": 1})
    world.publish()
    assert ["u2" in row for row in world.rows("snapshot_s_1")] == [True]
    world.lake.objects.delete("snapshots/s-1/manifest.json")
    world.publish()
    assert not world.catalogue.table_exists(("open", "snapshot_s_1"))


def test_a_file_that_is_not_what_its_commit_says_is_named_and_its_table_stays_as_it_was(world: World) -> None:
    world.batch()
    world.publish()
    before = world.rows()
    world.batch()
    (path,) = Path(world.settings.lake).glob("events/*/s-1.parquet")
    pq.write_table(made_events(0, 3, 3, DAY), path)
    with pytest.raises(CorruptData, match=r"s-1\.parquet has 3 rows, and its commit says 20"):
        world.publish()
    assert world.rows() == before


def test_a_catalogue_that_is_away_is_one_sentence_and_nothing_is_half_done(world: World, monkeypatch, tmp_path) -> None:
    for name in ("lake", "iceberg_catalogue"):
        monkeypatch.setenv(f"STILLPOINT_{name.upper()}", str(getattr(world.settings, name)))
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path / "home"))
    world.batch()
    done = CliRunner().invoke(verb, ["publish", "--json"], catch_exceptions=False)
    tables = {one["table"]: one for one in json.loads(done.stdout)["tables"]}
    assert tables["events"] == {"table": "events", "added_files": 1, "removed_files": 0, "expired": 0}
    gone = world.settings.model_copy(update={"iceberg_catalogue": f"sqlite:///{tmp_path}/none/catalogue.db"})
    with pytest.raises(
        StackUnavailable, match=r"the Iceberg catalogue sqlite:///.* cannot be used .*`stillpoint lake publish` again"
    ):
        open_catalogue(gone)
    with pytest.raises(InvalidSettings, match="STILLPOINT_ICEBERG_CATALOGUE is not set"):
        open_catalogue(world.settings.model_copy(update={"iceberg_catalogue": None}))


def test_snapshots_that_would_outlive_their_files_are_refused() -> None:
    with pytest.raises(ValueError, match="snapshots would outlive the files"):
        Settings(_env_file=None, iceberg_catalogue="glue", iceberg_keep=90_000)


def test_all_tables_of_one_publication_carry_its_run(world: World) -> None:
    world.batch()
    users = {"user_id": "u", "signed_up_at": NOON, "subscribed": True, "push_opt_in": True, "updated_at": NOON}
    file = world.lake.write(
        "users", NOON.date(), "u", pa.Table.from_pylist([{**users, "gender": None, "locale": None}])
    )
    world.lake.commit(Commit(writer="users", sequence=0, at=NOON, files=(file,)))
    world.publish()
    runs = {world.table(name).current_snapshot().summary[RUN] for name in ("events", "users")}
    assert len(runs) == 1
