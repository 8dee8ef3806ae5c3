"""A served recommendation is found by its id, and an unknown one is told, without reading the log."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.predictions.served_lookup import ServedLookup
from ingestion.compact import merge
from ingestion.log_checkpoint import fold
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.served_rows import SERVED_COLUMNS, SERVED_IDS, named_ids, names_id
from tests.support.wellness import FEATURES

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def id_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def rows(numbers: list[int], *, user: str = "u1") -> pa.Table:
    view = {
        "view": "user_profiles",
        "status": "PRESENT",
        "event_timestamp": NOON,
        "created_timestamp": NOON,
        "values": "{}",
    }
    made = [
        dict.fromkeys(SERVED_COLUMNS.names, "x")
        | {"recommendation_id": id_of(number), "served_at": NOON + timedelta(seconds=number), "generation": 1}
        | {"user_id": user, "items": ["c1"], "candidates": ["c1"], "scores": [1.0], "views": [view], "trigger": None}
        for number in numbers
    ]
    return pa.Table.from_pylist(made, schema=SERVED_COLUMNS)


def write(lake: Lake, writer: str, numbers: list[int], *, named: bool) -> None:
    file = lake.write("served", NOON.date(), writer, rows(numbers))
    properties: dict[str, Any] = {SERVED_IDS: named_ids(map(id_of, numbers))} if named else {}
    lake.commit(Commit(writer=writer, sequence=0, at=NOON, files=(file,), properties=properties))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What parts of Parquet files are read, by column or whole."""
    read: list[str] = []
    whole, group = pq.ParquetFile.read_row_groups, pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, "read_row_groups", lambda self, *a, **k: read.append("rows") or whole(self, *a, **k)
    )
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, *a, **k: read.append(str(k.get("columns"))) or group(self, *a, **k),
    )
    real = ServedLookup._open
    monkeypatch.setattr(ServedLookup, "_open", lambda self, path: read.append("file") or real(self, path))
    return read


def test_commits_that_name_their_ids_are_passed_over_unopened(tmp_path: Path, opened: list[str]) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    for number in range(20):
        write(lake, f"served-{number}", [number, number + 100], named=True)
    lookup = ServedLookup(lake)
    assert lookup.find(id_of(-1)) is None
    assert opened == []
    found = lookup.find(id_of(107))
    assert found is not None
    assert found["served_at"] == NOON + timedelta(seconds=107)
    assert opened == ["file"]


def test_files_whose_commits_name_nothing_are_looked_into_once(tmp_path: Path, opened: list[str]) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    for number in range(5):
        write(lake, f"served-{number}", [number], named=False)
    lookup = ServedLookup(lake)
    for _ in range(3):
        assert lookup.find(id_of(-1)) is None
    assert opened.count("file") == 5
    assert set(opened) == {"file", "['recommendation_id']"}, "ids alone are read"
    assert lookup.find(id_of(3)) is not None


def test_merged_and_folded_files_give_the_rows_of_one_group(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    for number in range(40):
        write(lake, f"served-{number}", list(range(number * 100, number * 100 + 100)), named=True)
    before = lake.read("served").sort_by("recommendation_id")
    assert merge(lake, since=NOON.date(), at=NOON) == {"served": 40}
    assert fold(lake, before=NOON + timedelta(hours=2), fewest=1)
    assert lake.read("served").sort_by("recommendation_id").equals(before)
    (file,) = lake.files("served")
    metadata = pq.ParquetFile(f"{lake.root}/{file.path}".removeprefix("file://")).metadata
    assert metadata.num_row_groups == 2
    lookup = ServedLookup(Lake(lake.objects, FEATURES))
    found = lookup.find(id_of(1234))
    assert found is not None
    assert found["served_at"] == NOON + timedelta(seconds=1234)
    assert opened == ["file", "file", "rows"]
    assert all(SERVED_IDS not in commit.properties for commit in lake.commits())


def test_of_copies_the_one_served_last_counts_and_superseded_files_do_not(tmp_path: Path) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    write(lake, "a", [1], named=True)
    write(lake, "b", [1], named=False)
    lookup = ServedLookup(lake)
    assert lookup.find(id_of(1)) is not None
    gone = tuple(file.path for file in lake.files("served"))
    lake.commit(Commit(writer="erase", sequence=0, at=NOON, files=(), supersedes=gone))
    assert lookup.find(id_of(1)) is None


@given(
    ids=st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), max_size=30),
    other=st.text(min_size=1, max_size=40),
)
def test_every_id_is_among_those_named(ids: list[str], other: str) -> None:
    assert all(names_id(named_ids(ids), one) for one in ids)
    if " " not in other[:8]:
        assert names_id(named_ids(ids), other) == (other[:8] in {one[:8] for one in ids})
