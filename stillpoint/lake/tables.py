"""The lake's committed rows: Parquet files that count once a commit names them.

Parquet files count only when a commit names them. A commit is one create-only JSON object,
`commits/<writer>/<sequence>.json`: it appears whole or not at all, and a replay of the same work finds it taken. A later
commit may supersede files (compaction, erasure). Older commits are folded into one object and deleted. Foreign readers use
`tables/`, which holds exactly the committed rows of closed days.
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from stillpoint.app.feature_set import FeatureSet
from stillpoint.errors import AlreadyExists, CorruptData, ObjectMissing
from stillpoint.events.types import RECORD_COLUMNS
from stillpoint.features.columns import feature_columns as feature_columns
from stillpoint.lake.checkpoint import CHECKPOINTS, LogCheckpoint
from stillpoint.lake.commits import Commit, CommittedFile, commit_key
from stillpoint.lake.datasets import ALL_DATES, EVENTS, DateRange, dataset_columns
from stillpoint.lake.objects import Objects
from stillpoint.served_rows import SERVED_GROUP

Found = TypeVar("Found")


COMPRESSION = "zstd"


LATER_COLUMNS = {"catalogue": ("until", "withdrawn")}
"""Columns that files and writers of an earlier version lack; they read as null."""


_TRIES = 5


class Lake:
    """The committed contents of the lake. Commits are immutable and kept in memory once read.

    Datasets of the views of `features` have declared columns. `event_columns` are those of the app's event types: events are
    read with them, and those of older files that lack one as null. Without them events have the columns that their files
    have.
    """

    def __init__(self, objects: Objects, features: FeatureSet, event_columns: pa.Schema | None = None) -> None:
        self.objects = objects
        self.features = features
        self.event_columns = event_columns
        self._columns: dict[str, pa.Schema | None] = {EVENTS: event_columns}
        self._commits: dict[str, Commit] = {}
        self._fold: LogCheckpoint | None = None

    @property
    def root(self) -> str:
        return self.objects.root

    def columns(self, dataset: str) -> pa.Schema | None:
        """Return the declared columns of a dataset, or None for one that is free in form."""
        if dataset not in self._columns:
            self._columns[dataset] = dataset_columns(dataset, self.features.stored)
        return self._columns[dataset]

    def write(self, dataset: str, day: date, name: str, table: pa.Table) -> CommittedFile:
        """Write one Parquet file and return its entry for a commit. Until committed, nobody reads it.

        `name` must be the work's own (writer, sequence, epoch, part), so that no two pieces of work share a path.
        """
        columns = None if dataset == EVENTS else self.columns(dataset)  # events keep what the app of today lacks
        if columns is not None:
            table = _with_later_columns(dataset, table, columns).select(columns.names).cast(columns)
        sink = io.BytesIO()
        group = SERVED_GROUP if dataset == "served" else None
        pq.write_table(table, sink, compression=COMPRESSION, coerce_timestamps="us", row_group_size=group)
        path = f"{dataset}/date={day.isoformat()}/{name}.parquet"
        self.objects.put(path, sink.getvalue())
        return CommittedFile(dataset=dataset, date=day, path=path, rows=table.num_rows)

    def commit(self, commit: Commit) -> bool:
        """Make the files count, all at once. Return False if this writer's sequence is committed already.

        False means that the same work was committed before; its files count, and the files of this call are ignored.
        """
        if (self._fold or self.checkpoint()).holds(commit.key):
            return False
        data = commit.model_dump_json(indent=1).encode()
        try:
            self.objects.create(commit.key, data)
        except AlreadyExists:
            stored = self.objects.get(commit.key)
            if stored != data:
                return False
        self._commits[commit.key] = commit
        return True

    def committed(self, writer: str, sequence: int) -> bool:
        """Say whether this writer's sequence is committed."""
        key = commit_key(writer, sequence)
        return key in self._commits or key in self.objects.list(key) or self.checkpoint().holds(key)

    def commits(self, writer: str | None = None) -> list[Commit]:
        """Return all commits, or one writer's, in the order of their keys; before them what older ones were folded into."""
        return _read_again(lambda: self._all_commits(writer))

    def _all_commits(self, writer: str | None) -> list[Commit]:
        prefix = "commits/" if writer is None else f"commits/{writer}/"
        keys = list(self.objects.list(prefix))
        fold = self.checkpoint()  # listed after the commits: whatever was deleted before that listing is in it
        keys = [key for key in keys if not fold.holds(key)]
        unread = [key for key in keys if key not in self._commits]
        if unread:
            with ThreadPoolExecutor(16) as pool:
                for key, data in zip(unread, pool.map(self.objects.get, unread), strict=True):
                    try:
                        self._commits[key] = Commit.model_validate_json(data)
                    except ValueError as error:
                        raise CorruptData(f"{self.root}/{key} is not a commit: {error}") from None
        folded = (one for one in fold.commits if writer in (None, one.writer))
        return [*folded, *(self._commits[key] for key in keys)]

    def frozen(self) -> "Lake":
        """Return this lake as of now, without later commits. Reading from it saves a listing of commits per read."""
        return _FrozenLake(self)

    def writers(self) -> set[str]:
        """Return the names of all writers with commits. No commit is read for that."""
        names = {key.removeprefix("commits/").partition("/")[0] for key in self.objects.list("commits/")}
        return names.union(self.checkpoint().sequences)

    def checkpoint(self) -> LogCheckpoint:
        """Return what older commits were folded into; an empty one if none ever was."""
        found = _read_again(self._read_checkpoint)
        if found != self._fold:
            self._commits = {key: commit for key, commit in self._commits.items() if not found.holds(key)}
        self._fold = found
        return found

    def _read_checkpoint(self) -> LogCheckpoint:
        key = max(self.objects.list(CHECKPOINTS), default=None)
        if key is None:
            return LogCheckpoint()
        if self._fold is not None and key == self._fold.key:
            return self._fold
        try:
            return LogCheckpoint.model_validate_json(self.objects.get(key))
        except ValueError as error:
            raise CorruptData(f"{self.root}/{key} is not a fold of commits: {error}") from None

    def files(self, dataset: str, dates: DateRange = ALL_DATES) -> list[CommittedFile]:
        """Return the dataset's files that count now, ordered by path."""
        return sorted((file for _, file in self._files_that_count(dataset, dates)), key=lambda file: file.path)

    def files_as_stored(self, dataset: str, dates: DateRange = ALL_DATES) -> list[CommittedFile]:
        """Return what `files` returns in the order of the commits: of two rows that are otherwise equal the last counts."""
        counting = sorted(self._files_that_count(dataset, dates), key=lambda one: one[0])
        return [file for _, file in counting]

    def _files_that_count(self, dataset: str, dates: DateRange) -> list[tuple[datetime, CommittedFile]]:
        """Return the dataset's files that count now, each with the time of its commit; of one commit in its order."""
        commits = self.commits()
        gone = {path for commit in commits for path in commit.supersedes}
        return [
            (commit.at, file)
            for commit in commits
            for file in commit.files
            if file.dataset == dataset and file.path not in gone and file.date in dates
        ]

    def dataset(self, dataset: str, dates: DateRange = ALL_DATES) -> pads.Dataset:
        """Return the committed files as a pyarrow dataset with the declared columns, for scans in bounded memory."""
        return self.open(dataset, self.files(dataset, dates))

    def open(self, dataset: str, files: Iterable[CommittedFile]) -> pads.Dataset:
        """Return some of a dataset's files as `dataset` returns all."""
        return self._open(files, self.columns(dataset), RECORD_COLUMNS if dataset == EVENTS else pa.schema([]))

    def open_whole(self, dataset: str, files: Iterable[CommittedFile]) -> pads.Dataset:
        """Return some of a dataset's files with every column that any of them has, declared or not."""
        return self._open(files, None if dataset == EVENTS else self.columns(dataset), pa.schema([]))

    def _open(self, files: Iterable[CommittedFile], columns: pa.Schema | None, least: pa.Schema) -> pads.Dataset:
        filesystem, root = self.objects.arrow()
        paths = [f"{root}/{file.path}" for file in files if file.rows]
        if columns is None:
            with ThreadPoolExecutor(16) as pool:
                found = pool.map(lambda path: pq.read_schema(path, filesystem=filesystem), paths)
                columns = pa.unify_schemas(list(found)) if paths else least
        if not paths:
            return pads.dataset(columns.empty_table())
        return pads.dataset(paths, schema=columns, filesystem=filesystem, format="parquet")

    def read(
        self,
        dataset: str,
        dates: DateRange = ALL_DATES,
        *,
        columns: Sequence[str] | None = None,
        where: pads.Expression | None = None,
    ) -> pa.Table:
        """Return the dataset's committed rows in memory. Copies of a row by replays or backfills are not removed."""
        return self.dataset(dataset, dates).to_table(
            columns=list(columns) if columns is not None else None, filter=where
        )

    def newest(
        self,
        dataset: str,
        rows: int,
        dates: DateRange = ALL_DATES,
        *,
        columns: Sequence[str] | None = None,
        where: pads.Expression | None = None,
    ) -> pa.Table:
        """Return at least `rows` rows of the files of the newest dates, of a date those committed last; or all rows if there
        are fewer.

        For logs that grow without end: files are read from the newest back, whole, in groups, until there are enough.
        """
        counting = sorted(self._files_that_count(dataset, dates), key=lambda one: (one[1].date, one[0]))
        files = [file for _, file in reversed(counting)]
        found: list[pa.Table] = []
        group, left = 4, rows
        while not found or (files and left > 0):
            table = self.open(dataset, files[:group]).to_table(columns=columns and list(columns), filter=where)
            found.append(table)
            files, left, group = files[group:], left - table.num_rows, group * 2
        return pa.concat_tables(found)

    def get_json(self, key: str) -> dict[str, object]:
        """Return a JSON object of the lake.

        Raises:
            ObjectMissing: there is none. CorruptData: it is not a JSON object.
        """
        try:
            value = json.loads(self.objects.get(key))
        except ValueError as error:
            raise CorruptData(f"{self.root}/{key} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise CorruptData(f"{self.root}/{key} is not a JSON object")
        return value

    def put_json(self, key: str, value: Mapping[str, object]) -> None:
        """Write a JSON object whole, replacing any."""
        self.objects.put(key, (json.dumps(value, indent=1, default=_iso) + "\n").encode())


class _FrozenLake(Lake):
    """A lake as it was at one moment."""

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.objects, lake.features, lake.event_columns)
        self._then = lake.commits()

    def commits(self, writer: str | None = None) -> list[Commit]:
        return [commit for commit in self._then if writer in (None, commit.writer)]


def _read_again(read: Callable[[], Found]) -> Found:
    """Read again if a listed commit is gone: it has been included in a checkpoint meanwhile."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except ObjectMissing:
            continue
    return read()


def _iso(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _with_later_columns(dataset: str, table: pa.Table, columns: pa.Schema) -> pa.Table:
    """Add as nulls the columns that a dataset did not always have, for writers that do not know them."""
    for name in LATER_COLUMNS.get(dataset, ()):
        if name not in table.column_names:
            table = table.append_column(columns.field(name), pa.nulls(table.num_rows, columns.field(name).type))
    return table
