"""Compaction: merges the many small files of a day into one, and writes closed days as tables that plain Spark SQL can read.

`tables/<dataset>/date=…/rows.parquet` holds each committed row of a closed day once. The commit that names it supersedes
the small files. Rows that are committed for that day later are merged into the same path at the next run. The small files of
a day that is still written to are merged too, and copies of rows among them are dropped. Superseded files are not deleted, since readers
may have them open.
"""

import io
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, datetime

import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from stillpoint.features.declarations import DAILY_VIEWS, STREAMED_VIEWS
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import EVENTS, TABLES, DateRange, dataset_columns, feature_dataset
from stillpoint.lake.tables import COMPRESSION, Lake
from stillpoint.served_rows import SERVED_GROUP

_RECORD = ("shard", "sequence")
IDENTITY: dict[str, tuple[str, ...]] = {
    "events": _RECORD,
    "quarantine": _RECORD,
    **{
        feature_dataset(view): (view.entity.join_key, "event_timestamp", "created_timestamp")
        for view in (*STREAMED_VIEWS, *DAILY_VIEWS)
    },
}
"""The columns by which two rows of a dataset are copies of each other, written twice by a replay or a backfill."""

SMALL_ROWS = 100_000
MANY_FILES = 32
MERGED_ROWS = 250_000

Progress = Callable[[str, date, int], None]


def compact(
    lake: Lake,
    *,
    before: date,
    at: datetime,
    progress: Progress = lambda dataset, day, rows: None,
) -> dict[str, int]:
    """Compact every day before `before` that has files outside `tables/`. Return rows by dataset.

    Callers hold the lease `compact`, so one run works at a time. A run that was killed can be repeated: until the commit, readers that go
    by commits see copies of rows, which they remove by key; readers of `tables/` see each committed row exactly once.
    """
    counts: dict[str, int] = {}
    run = f"{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    sequence = 0
    gone_for_good = {path for commit in lake.commits() for path in commit.supersedes if path.startswith(TABLES)}
    for dataset, identity in IDENTITY.items():
        days: dict[date, list[CommittedFile]] = defaultdict(list)
        for file in lake.files(dataset):
            if file.date < before:
                days[file.date].append(file)
        for day, files in sorted(days.items()):
            path = f"tables/{dataset}/date={day.isoformat()}/rows.parquet"
            loose = [file for file in files if file.path != path]
            if not loose or path in gone_for_good:
                continue
            table = _merged(lake, dataset, day, identity)
            sink = io.BytesIO()
            pq.write_table(table, sink, compression=COMPRESSION, coerce_timestamps="us")
            lake.objects.put(path, sink.getvalue())
            known = any(file.path == path for file in files)
            added = () if known else (CommittedFile(dataset=dataset, date=day, path=path, rows=table.num_rows),)
            gone = tuple(file.path for file in loose)
            lake.commit(Commit(writer=f"compact-{run}", sequence=sequence, at=at, files=added, supersedes=gone))
            sequence += 1
            counts[dataset] = counts.get(dataset, 0) + table.num_rows
            progress(dataset, day, table.num_rows)
    return counts


def merge(
    lake: Lake,
    *,
    since: date,
    at: datetime,
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
        for part in _parts(files):
            table = _once(dataset, lake.open_whole(dataset, part).to_table())
            if dataset == "served":
                table = _by_id(table)
            added = lake.write(dataset, day, f"{run}-{sequence:06d}", table)
            gone = tuple(file.path for file in part)
            lake.commit(Commit(writer=run, sequence=sequence, at=at, files=(added,), supersedes=gone))
            sequence += 1
            counts[dataset] = counts.get(dataset, 0) + len(part)
            progress(dataset, day, table.num_rows)
    return counts


def _small(lake: Lake, since: date) -> dict[tuple[str, date], list[CommittedFile]]:
    """Return the small files of each dataset and day that has many, the oldest commits first."""
    commits = sorted(lake.commits(), key=lambda commit: commit.at)
    gone = {path for commit in commits for path in commit.supersedes}
    found: dict[tuple[str, date], list[CommittedFile]] = defaultdict(list)
    for file in (file for commit in commits for file in commit.files):
        small = file.rows < SMALL_ROWS and file.path not in gone and not file.path.startswith(TABLES)
        if small and file.date >= since and (file.dataset in IDENTITY or file.dataset == "served"):
            found[file.dataset, file.date].append(file)
    return {key: files for key, files in found.items() if len(files) >= MANY_FILES}


def _parts(files: list[CommittedFile]) -> Iterator[list[CommittedFile]]:
    """Split files into parts of at most `MERGED_ROWS` rows."""
    part: list[CommittedFile] = []
    rows = 0
    for file in files:
        if part and rows + file.rows > MERGED_ROWS:
            yield part
            part, rows = [], 0
        part.append(file)
        rows += file.rows
    yield part


def _by_id(table: pa.Table) -> pa.Table:
    """Return rows of the served log sorted by recommendation id, so that Parquet's row-group statistics lead a reader to one id, and
    each row once: SQS may have delivered a message of rows twice."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame = frame.unique(["recommendation_id", "served_at"], keep="first").sort("recommendation_id", "served_at")
    parts = (frame.slice(start, SERVED_GROUP) for start in range(0, frame.height, SERVED_GROUP))
    return pa.concat_tables([part.to_arrow().cast(table.schema) for part in parts])


def tables(lake: Lake, dataset: str) -> pads.Dataset:
    """Return what a reader without knowledge of commits sees of a dataset: the files below `tables/`."""
    filesystem, root = lake.objects.arrow()
    columns = lake.event_columns if dataset == EVENTS else dataset_columns(dataset)
    return pads.dataset(f"{root}/tables/{dataset}", schema=columns, filesystem=filesystem)


def _once(dataset: str, table: pa.Table) -> pa.Table:
    """Return rows without copies. Of rows with the same record, or of equal feature rows, the one stored last is kept."""
    frame = pl.DataFrame(pl.from_arrow(table))
    key = list(_RECORD) if IDENTITY.get(dataset) == _RECORD else None
    once = frame.unique(key, keep="last", maintain_order=True) if dataset in IDENTITY else frame
    return table if len(once) == len(frame) else once.to_arrow().cast(table.schema)


def _merged(lake: Lake, dataset: str, day: date, identity: tuple[str, ...]) -> pa.Table:
    """Return the day's committed rows without copies, in an order that depends on the rows alone."""
    table = lake.open_whole(dataset, lake.files_as_stored(dataset, DateRange(day, day))).to_table()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    merged = frame.unique(list(identity), keep="last", maintain_order=True).sort(*identity)
    return merged.to_arrow().cast(table.schema)
