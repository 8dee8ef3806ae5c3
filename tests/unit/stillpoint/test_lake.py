"""The lake counts exactly what was committed."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.catalogue import read_catalogue
from stillpoint.errors import CorruptData
from stillpoint.events.types import CATALOGUE_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import DateRange, by_date, feature_dataset, newest_rows
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from tests.support.wellness import FEATURES, SEARCH_EMBEDDINGS, VIEWS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATASET = feature_dataset(USER_SEQUENCE, 1)


def rows(*values: tuple[str, datetime, datetime, int]) -> pa.Table:
    users, happened, learned, sequence = zip(*values, strict=True)
    return pa.table(
        {
            "user_id": users,
            "event_timestamp": happened,
            "created_timestamp": learned,
            "sequence_id": sequence,
            "mapping_version": [1] * len(values),
        }
    ).cast(feature_columns(USER_SEQUENCE))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def open_lake(folder: Path) -> Lake:
    return Lake(LocalObjects(folder), FEATURES)


def commit_one(lake: Lake, sequence: int, number: int, *, supersedes: tuple[str, ...] = (), at: datetime = NOON) -> str:
    file = lake.write(DATASET, NOON.date(), f"test-{sequence}", rows(("u1", NOON, NOON, number)))
    assert lake.commit(Commit(writer="test", sequence=sequence, at=at, files=(file,), supersedes=supersedes))
    return file.path


def test_a_file_without_a_commit_is_not_read(folder: Path) -> None:
    open_lake(folder).write(DATASET, NOON.date(), "orphan", rows(("u1", NOON, NOON, 1)))
    assert open_lake(folder).read(DATASET).num_rows == 0


def test_a_committed_file_is_read_by_another_process(folder: Path) -> None:
    commit_one(open_lake(folder), 0, 5)
    assert open_lake(folder).read(DATASET)["sequence_id"].to_pylist() == [5]


def test_a_replayed_commit_is_ignored_and_says_so(folder: Path) -> None:
    commit_one(open_lake(folder), 0, 5)
    again = open_lake(folder)
    file = again.write(DATASET, NOON.date(), "test-0-again", rows(("u1", NOON, NOON, 6)))
    assert again.commit(Commit(writer="test", sequence=0, at=NOON + timedelta(seconds=1), files=(file,))) is False
    assert open_lake(folder).read(DATASET)["sequence_id"].to_pylist() == [5]
    assert again.committed("test", 0)
    assert not again.committed("test", 1)


def test_a_superseded_file_is_no_longer_read(folder: Path) -> None:
    lake = open_lake(folder)
    old = commit_one(lake, 0, 5)
    commit_one(lake, 1, 6, supersedes=(old,))
    assert open_lake(folder).read(DATASET)["sequence_id"].to_pylist() == [6]


def test_only_the_asked_dates_are_read(folder: Path) -> None:
    lake = open_lake(folder)
    commit_one(lake, 0, 5)
    assert lake.read(DATASET, DateRange(date(2026, 3, 1), date(2026, 3, 1))).num_rows == 1
    assert lake.read(DATASET, DateRange(date(2026, 3, 2))).num_rows == 0
    assert lake.read(DATASET, DateRange(None, date(2026, 2, 28))).num_rows == 0


def test_the_newest_rows_are_read_from_the_newest_commits_only(folder: Path) -> None:
    lake = open_lake(folder)
    paths = [commit_one(lake, n, n, at=NOON - timedelta(seconds=n)) for n in range(30)]
    for path in paths[12:]:
        (folder / path).write_bytes(b"not read")
    assert sorted(lake.newest(DATASET, 5)["sequence_id"].to_pylist()) == list(range(12))
    odd = pc.field("sequence_id") == 3
    assert lake.newest(DATASET, 1, columns=["sequence_id"], where=odd).to_pydict() == {"sequence_id": [3]}
    with pytest.raises(pa.ArrowInvalid):
        lake.newest(DATASET, 13)


def test_the_newest_rows_are_all_rows_where_there_are_too_few(folder: Path) -> None:
    lake = open_lake(folder)
    assert lake.newest(DATASET, 5).schema.names == feature_columns(USER_SEQUENCE).names
    gone = commit_one(lake, 0, 5)
    commit_one(lake, 1, 6, supersedes=(gone,))
    assert lake.newest(DATASET, 5)["sequence_id"].to_pylist() == [6]
    assert lake.newest(DATASET, 5, DateRange(date(2026, 3, 2))).num_rows == 0


def test_a_still_lake_does_not_see_what_is_committed_later(folder: Path) -> None:
    lake = open_lake(folder)
    commit_one(lake, 0, 5)
    still = lake.frozen()
    commit_one(lake, 1, 6)
    assert still.read(DATASET)["sequence_id"].to_pylist() == [5]
    assert still.commits("test") == lake.commits("test")[:1]
    assert lake.frozen().read(DATASET).num_rows == 2


def test_a_damaged_commit_is_named_and_never_skipped(folder: Path) -> None:
    lake = open_lake(folder)
    commit_one(lake, 0, 5)
    (folder / "commits" / "test" / "000000000001.json").write_text("{half")
    with pytest.raises(CorruptData, match=r"commits/test/000000000001\.json is not a commit"):
        open_lake(folder).read(DATASET)


def test_a_table_of_the_wrong_form_is_refused_before_anything_is_written(folder: Path) -> None:
    lake = open_lake(folder)
    with pytest.raises(KeyError):
        lake.write(DATASET, NOON.date(), "bad", pa.table({"user_id": ["u1"]}))
    assert list(lake.objects.list("")) == []


def test_an_empty_dataset_has_the_declared_columns(folder: Path) -> None:
    table = open_lake(folder).read(feature_dataset(SEARCH_EMBEDDINGS))
    assert table.schema.names == feature_columns(SEARCH_EMBEDDINGS).names


def test_the_newest_row_of_each_moment_counts(folder: Path) -> None:
    later = NOON + timedelta(seconds=1)
    table = rows(("u1", NOON, later, 2), ("u1", NOON, NOON, 1), ("u2", NOON, NOON, 3), ("u1", later, later, 4))
    found = newest_rows(table, "user_id")
    assert found["sequence_id"].to_pylist() == [2, 4, 3]


def test_rows_are_split_by_utc_date() -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    table = rows(("u1", midnight, NOON, 2), ("u1", midnight - timedelta(microseconds=1), NOON, 1))
    assert [(day, part["sequence_id"].to_pylist()) for day, part in by_date(table)] == [
        (date(2026, 3, 1), [1]),
        (date(2026, 3, 2), [2]),
    ]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_has_columns_in_the_order_key_times_features(view: object) -> None:
    names = feature_columns(view).names  # type: ignore[arg-type]
    assert names[1:3] == ["event_timestamp", "created_timestamp"]
    assert names[3:] == list(view.feature_names)  # type: ignore[attr-defined]


def test_catalogue_files_and_writers_without_the_later_columns_read_as_null(folder: Path) -> None:
    lake = open_lake(folder)
    former = pa.schema([one for one in CATALOGUE_COLUMNS if one.name not in ("until", "withdrawn")])
    row = {
        "content_id": "c1",
        "title": "Rain",
        "description": "",
        "category": "sleep",
        "duration_seconds": 60,
        "published_at": NOON,
        "updated_at": NOON,
    }
    table = pa.Table.from_pylist([row], schema=former)
    file = lake.write("catalogue", NOON.date(), "by-a-writer-that-does-not-know", table)
    pq.write_table(table, folder / file.path)  # and as a file of the version before would be
    lake.commit(Commit(writer="test", sequence=0, at=NOON, files=(file,)))
    assert lake.read("catalogue").to_pylist() == [row | {"until": None, "withdrawn": None}]
    (found,) = read_catalogue(lake, now=NOON)
    assert found.offered_at(NOON)
    assert not found.offered_at(NOON - timedelta(microseconds=1))
