"""Compaction: merges the many small files of a day into one, and writes closed days as tables that plain Spark SQL can read.

`tables/<dataset>/date=…/rows.parquet` holds each committed row of a closed day once. The commit that names it supersedes
the small files. Rows that are committed for that day later are merged into the same path at the next run. The small files of
a day that is still written to are merged too, and copies of rows among them are dropped. Superseded files are not deleted, since readers
may have them open.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads

from stillpoint.dtypes import EMBEDDING_LENGTH
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import TABLES, DateRange, feature_dataset
from stillpoint.lake.sorted_rows import BUDGET, SortedRows, last_of_each
from stillpoint.lake.streaming import ParquetWriting, stream_rows, write_rows
from stillpoint.lake.tables import Lake

_RECORD = ("shard", "sequence")
SMALL_ROWS = 100_000
MANY_FILES = 32
MERGED_ROWS = 250_000
MERGED_BYTES = 128 * 1024 * 1024
_EMBEDDING_BYTES = 4 * EMBEDDING_LENGTH
_SERVED = ("recommendation_id", "served_at")

Progress = Callable[[str, date, int], None]


def identity_of(lake: Lake) -> dict[str, tuple[str, ...]]:
    """Return by dataset the columns by which two rows are copies of each other, written twice by a replay or a backfill."""
    views = {
        feature_dataset(view): (*view.entity.keys, "event_timestamp", "created_timestamp")
        for view in lake.features.stored
    }
    return {"events": _RECORD, "quarantine": _RECORD, **views}


def compact(
    lake: Lake,
    *,
    before: date,
    at: datetime,
    budget: int = BUDGET,
    folder: Path | None = None,
    progress: Progress = lambda dataset, day, rows: None,
) -> dict[str, int]:
    """Compact every day before `before` that has files outside `tables/`. Return rows by dataset.

    A day may be larger than memory: about four times `budget` bytes of its rows are held at a time, the others lie in `folder`.

    Callers hold the lease `compact`, so one run works at a time. A run that was killed can be repeated: until the commit, readers that go
    by commits see copies of rows, which they remove by key; readers of `tables/` see each committed row exactly once.
    """
    counts: dict[str, int] = {}
    run = f"{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    sequence = 0
    gone_for_good = {path for commit in lake.commits() for path in commit.supersedes if path.startswith(TABLES)}
    for dataset in identity_of(lake):
        days: dict[date, list[CommittedFile]] = defaultdict(list)
        for file in lake.files(dataset):
            if file.date < before:
                days[file.date].append(file)
        for day, files in sorted(days.items()):
            path = f"tables/{dataset}/date={day.isoformat()}/rows.parquet"
            loose = [file for file in files if file.path != path]
            if not loose or path in gone_for_good:
                continue
            rows = _write_day(lake, dataset, day, path, budget=budget, folder=folder)
            known = any(file.path == path for file in files)
            added = () if known else (CommittedFile(dataset=dataset, date=day, path=path, rows=rows),)
            gone = tuple(file.path for file in loose)
            lake.commit(Commit(writer=f"compact-{run}", sequence=sequence, at=at, files=added, supersedes=gone))
            sequence += 1
            counts[dataset] = counts.get(dataset, 0) + rows
            progress(dataset, day, rows)
    return counts


def merge(
    lake: Lake,
    *,
    since: date,
    at: datetime,
    budget: int = BUDGET,
    folder: Path | None = None,
    progress: Progress = lambda dataset, day, rows: None,
) -> dict[str, int]:
    """Merge the small files of the days from `since` on, where there are many of them. Return merged files by dataset.

    A stream writes a file per dataset and micro-batch, and every read opens all of them. Callers hold the lease `compact`; the stream may
    go on writing meanwhile. A run that was killed can be repeated.
    """
    counts: dict[str, int] = {}
    run = f"merge-{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    sequence = 0
    for (dataset, day), files in _small(lake, since).items():
        for part in _parts(files, _most_rows(lake, dataset)):
            name = f"{run}-{sequence:06d}"
            if dataset == "served":
                added = _write_by_id(lake, day, name, part, budget=budget, folder=folder)
            else:
                added = lake.write(dataset, day, name, _once(lake, dataset, lake.open_whole(dataset, part).to_table()))
            gone = tuple(file.path for file in part)
            lake.commit(Commit(writer=run, sequence=sequence, at=at, files=(added,), supersedes=gone))
            sequence += 1
            counts[dataset] = counts.get(dataset, 0) + len(part)
            progress(dataset, day, added.rows)
    return counts


def _small(lake: Lake, since: date) -> dict[tuple[str, date], list[CommittedFile]]:
    """Return the small files of each dataset and day that has many, the oldest commits first."""
    commits = sorted(lake.commits(), key=lambda commit: commit.at)
    gone = {path for commit in commits for path in commit.supersedes}
    known = {"served", *identity_of(lake)}
    found: dict[tuple[str, date], list[CommittedFile]] = defaultdict(list)
    for file in (file for commit in commits for file in commit.files):
        small = file.rows < SMALL_ROWS and file.path not in gone and not file.path.startswith(TABLES)
        if small and file.date >= since and file.dataset in known:
            found[file.dataset, file.date].append(file)
    return {key: files for key, files in found.items() if len(files) >= MANY_FILES}


def _most_rows(lake: Lake, dataset: str) -> int:
    """Return how many rows are merged at once in memory; embeddings make rows a hundred times larger than numbers."""
    columns = lake.columns(dataset)
    if dataset == "served" or columns is None:
        return MERGED_ROWS
    width = sum(_EMBEDDING_BYTES if pa.types.is_list(field.type) and field.name != "items" else 16 for field in columns)
    return min(MERGED_ROWS, MERGED_BYTES // width)


def _parts(files: list[CommittedFile], most: int) -> Iterator[list[CommittedFile]]:
    """Split files into parts of at most `most` rows."""
    part: list[CommittedFile] = []
    rows = 0
    for file in files:
        if part and rows + file.rows > most:
            yield part
            part, rows = [], 0
        part.append(file)
        rows += file.rows
    yield part


def _write_by_id(
    lake: Lake, day: date, name: str, files: list[CommittedFile], *, budget: int, folder: Path | None
) -> CommittedFile:
    """Write rows of the served log sorted by recommendation id, so that Parquet's row-group statistics lead a reader to one id, and
    each row once: SQS may have delivered a message of rows twice."""
    schema = lake.columns("served")
    assert schema is not None
    with SortedRows(schema, _SERVED, reduce=last_of_each(_SERVED), budget=budget, folder=folder) as rows:
        for table in stream_rows(lake, files, schema):
            rows.add(table)
        return write_rows(lake, "served", day, name, rows.ranges(), folder=folder)


def tables(lake: Lake, dataset: str) -> pads.Dataset:
    """Return what a reader without knowledge of commits sees of a dataset: the files below `tables/`."""
    filesystem, root = lake.objects.arrow()
    return pads.dataset(f"{root}/tables/{dataset}", schema=lake.columns(dataset), filesystem=filesystem)


def _once(lake: Lake, dataset: str, table: pa.Table) -> pa.Table:
    """Return rows without copies. Of rows with the same record, or of equal feature rows, the one stored last is kept."""
    frame = pl.DataFrame(pl.from_arrow(table))
    known = identity_of(lake)
    key = list(_RECORD) if known.get(dataset) == _RECORD else None
    once = frame.unique(key, keep="last", maintain_order=True) if dataset in known else frame
    return table if len(once) == len(frame) else once.to_arrow().cast(table.schema)


def _write_day(lake: Lake, dataset: str, day: date, path: str, *, budget: int, folder: Path | None) -> int:
    """Write the day's committed rows without copies, in an order that depends on the rows alone; return their number."""
    files, identity = lake.files_as_stored(dataset, DateRange(day, day)), identity_of(lake)[dataset]
    schema = lake.open_whole(dataset, files).schema
    with (
        SortedRows(schema, identity, reduce=last_of_each(identity), budget=budget, folder=folder) as rows,
        ParquetWriting(lake.objects, path, schema, folder=folder) as file,
    ):
        for table in stream_rows(lake, files, schema):
            rows.add(table)
        for table in rows.ranges():
            file.add(table)
        return file.finish()
