"""Sorts more rows than memory holds: sorted runs on disk, read back range by range.

Rows are added in any order and in tables of any size. `ranges` yields them in the order of the key, in tables of about
`budget` bytes: all rows of one key are in one table, so whatever is computed per key can be computed per table. Rows that
are equal in key and order come in the order in which they were added, as a stable sort in memory leaves them.
"""

import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BUDGET = 128 * 1024 * 1024
"""Bytes of rows that one sort holds at a time, before copies that sorting makes (about three)."""

_BATCH_BYTES = 256 * 1024

Key = tuple[Any, ...]
Reduce = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class _Run:
    """A file of sorted rows. `firsts` are the keys with which its batches begin, `batch_bytes` how large each is."""

    path: Path
    firsts: list[Key]
    batch_bytes: int


class SortedRows:
    """Rows sorted by `key`, then by `order`. Used as a context manager: its files are deleted at the end.

    `key` and `order` columns hold no nulls. `reduce` takes sorted rows and returns fewer of them in the same order, such
    as one row per key; it is applied to runs and to ranges, so reducing twice must give what reducing once gives.
    """

    def __init__(
        self,
        schema: pa.Schema,
        key: Sequence[str],
        *,
        order: Sequence[str] = (),
        reduce: Reduce = lambda table: table,
        budget: int = BUDGET,
        folder: Path | None = None,
    ) -> None:
        """`folder` is where files are made; None takes the system's folder for temporary files."""
        self.schema = schema
        self.key = tuple(key)
        self.budget = budget
        self._order = tuple(order)
        self._reduce = reduce
        self._parent = folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.held: list[pa.Table] = []
        self._bytes = 0
        self.runs: list[_Run] = []

    def __enter__(self) -> "SortedRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held, self.runs = [], []
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, table: pa.Table) -> None:
        """Add rows. Those that do not fit in memory are sorted and written to disk."""
        for part in _pieces(table, self.budget):
            if self.held and self._bytes + part.nbytes > self.budget:
                self.spill()
            self.held.append(part)
            self._bytes += part.nbytes

    def ranges(self) -> Iterator[pa.Table]:
        """Yield all rows in order, in tables that split no key."""
        for (table,) in ranges_together(self):
            if table.num_rows:
                yield table

    def sorted(self, parts: Sequence[pa.Table]) -> pa.Table:
        """Return rows of some tables, sorted and reduced."""
        table = pa.concat_tables(parts).combine_chunks() if parts else self.schema.empty_table()
        if not table.num_rows:
            return table
        keys = [(name, "ascending") for name in (*self.key, *self._order)]
        return self._reduce(table.take(pc.sort_indices(table, sort_keys=keys)))

    def spill(self) -> None:
        """Sort what is in memory, and write it to disk."""
        if not self.held:
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="stillpoint-sort-", dir=self._parent)
        table = self.sorted(self.held)
        self.held, self._bytes = [], 0
        path = Path(self._folder.name) / f"{len(self.runs):06d}.arrow"
        rows = max(1, table.num_rows * _BATCH_BYTES // max(1, table.nbytes))
        firsts = []
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
            for start in range(0, table.num_rows, rows):
                (batch,) = table.slice(start, rows).combine_chunks().to_batches()
                firsts.append(_Keys(batch, self.key)[0])
                writer.write_batch(batch)
        self.runs.append(_Run(path, firsts, table.nbytes // max(1, len(firsts))))

    def between(self, low: Key | None, high: Key | None) -> Iterator[pa.Table]:
        """Yield the rows on disk with low <= key < high, of one run after the other. None is open."""
        for run in self.runs:
            first = 0 if low is None else max(0, bisect_left(run.firsts, low) - 1)
            last = len(run.firsts) if high is None else bisect_left(run.firsts, high)
            if first >= last:
                continue
            with pa.OSFile(str(run.path)) as source, pa.ipc.open_file(source) as reader:
                for number in range(first, last):
                    batch = reader.get_batch(number)
                    begin = 0 if low is None else bisect_left(_Keys(batch, self.key), low)
                    end = batch.num_rows if high is None else bisect_left(_Keys(batch, self.key), high)
                    if begin < end:
                        yield pa.Table.from_batches([batch.slice(begin, end - begin)])


def ranges_together(*sorts: SortedRows) -> Iterator[tuple[pa.Table, ...]]:
    """Yield the rows of several sorts by equal key columns, range by range: a key's rows are in one range of each."""
    if not any(one.runs for one in sorts):
        yield tuple(one.sorted(one.held) for one in sorts)
        return
    for one in sorts:
        one.spill()
    cuts = _cuts(sorts)
    for low, high in zip([None, *cuts], [*cuts, None], strict=True):
        yield tuple(one.sorted(list(one.between(low, high))) for one in sorts)


def last_of_each(key: Sequence[str]) -> Reduce:
    """Return a `reduce` that keeps the last row of each key."""

    def reduce(table: pa.Table) -> pa.Table:
        count = table.num_rows
        if count < 2:
            return table
        differs = np.zeros(count - 1, bool)
        for name in key:
            column = table[name]
            differs |= pc.not_equal(column.slice(0, count - 1), column.slice(1)).to_numpy(zero_copy_only=False)
        return table if differs.all() else table.filter(pa.array(np.append(differs, True)))

    return reduce


class _Keys(Sequence[Key]):
    """The keys of a batch's rows, made when they are asked for."""

    def __init__(self, batch: pa.RecordBatch, key: Sequence[str]) -> None:
        self._columns = [batch.column(name) for name in key]
        self._count: int = batch.num_rows

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        return tuple(column[row].as_py() for column in self._columns)


def _cuts(sorts: Sequence[SortedRows]) -> list[Key]:
    """Return keys that divide the rows on disk into ranges of about the smallest budget."""
    budget = min(one.budget for one in sorts)
    starts = sorted(
        ((first, run.batch_bytes) for one in sorts for run in one.runs for first in run.firsts), key=lambda one: one[0]
    )
    cuts: list[Key] = []
    size = 0
    for first, count in starts:
        if size and size + count > budget and (not cuts or first > cuts[-1]):
            cuts.append(first)
            size = 0
        size += count
    return cuts


def _pieces(table: pa.Table, budget: int) -> Iterator[pa.Table]:
    """Split a table into pieces of at most the budget."""
    if not table.num_rows:
        return
    rows = max(1, table.num_rows * budget // max(budget, table.nbytes))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)
