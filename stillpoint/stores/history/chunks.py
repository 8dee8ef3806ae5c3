"""Reads consecutive rows of a source: only the requested columns, in the files' own types, with times in UTC.

`Chunk.in_wanted_types` converts them to the types that the view declares, for only the rows that are needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.files import parse_partition
from stillpoint.stores.history.point_in_time import Ints
from stillpoint.stores.values.exact import convert, does_not_fit, one_array

NO_TYPES = pa.schema([])


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One Parquet file: its path within the file system, its number of rows, and its hive partition values as text."""

    path: str
    rows: int
    partitions: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTypes:
    """The types to convert a source's columns to. `where` begins error texts; `nearest` names the columns that may be
    rounded to the nearest Float32."""

    types: pa.Schema
    where: str
    nearest: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReading:
    """How files of equal schemas are read. `types` is their schema with times in UTC, without partition columns."""

    types: pa.Schema
    encoded: tuple[str, ...]
    zoned: bool
    prefix: str
    options: Mapping[str, str]
    filesystem: pafs.FileSystem


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive rows of a source that are read together. `start` is the first row's number within the source."""

    files: tuple[SourceFile, ...]
    reading: FileReading | None
    wanted: WantedTypes
    offset: int
    rows: int
    start: int

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read the columns in the files' own types."""
        return self.scan(columns).collect()

    def scan(self, columns: Sequence[str], number: str | None = None) -> pl.LazyFrame:
        """Return a lazy frame of what `read` returns. `number` names a column to add, of row numbers within the source.

        A column that these files lack is null: files written before a feature existed stay readable.
        """
        if self.reading is None:
            return pl.LazyFrame(schema=dict.fromkeys([*columns, *([number] if number else [])], pl.Null))
        parted = [name for name in columns if name in self._partitions]
        own = [name for name in columns if name in self.reading.types.names and name not in parted]
        missing = [pl.lit(None).alias(name) for name in columns if name not in (*own, *parted)]
        if self.reading.zoned:
            frame = self._read_arrow(own, parted).lazy()
        elif parted:
            frame = pl.concat([self._scan([file], parted) for file in self.files]).slice(self.offset, self.rows)
        else:
            frame = self._scan(self.files, ()).slice(self.offset, self.rows)
        texts = [pl.col(name).cast(pl.String) for name in own if name in self.reading.encoded]
        frame = frame.with_columns(*missing, *texts)
        if number is None:
            return frame.select(columns)
        numbered = frame.with_row_index(number).with_columns(pl.col(number).cast(pl.Int64) + self.start)
        return numbered.select(*columns, number)

    def must_convert(self, columns: Sequence[str]) -> bool:
        """Return whether any of the columns is stored in another type than the wanted one."""
        return any(self._own(name) != self.wanted.types.field(name).type for name in columns)

    def in_wanted_types(self, frame: pl.DataFrame, columns: Sequence[str], numbers: Ints | None = None) -> pl.DataFrame:
        """Return rows of this chunk with columns in the types wanted. `numbers` are the rows' numbers in the source.

        Raises:
            InvalidInput: a value does not fit; names view, column, file, row and value.
        """
        made, wrong = self.converted(frame, columns, numbers)
        if wrong:
            raise InvalidInput(wrong[min(wrong)])
        return made

    def converted(
        self, frame: pl.DataFrame, columns: Sequence[str], numbers: Ints | None
    ) -> tuple[pl.DataFrame, dict[int, str]]:
        """Return rows with columns in the wanted types, null where a value does not fit, and an error text per such row."""
        made: list[pl.Series] = []
        wrong: dict[int, str] = {}
        for name in columns:
            own, wanted = self._own(name), self.wanted.types.field(name).type
            if own == wanted:
                continue
            array = as_arrow(frame[name], own)
            where = f"{self.wanted.where}, column {name!r}"
            try:
                found = convert(array, wanted, nearest=name in self.wanted.nearest)
            except TypeError as error:
                raise InvalidInput(f"{where}, {self._place(None)}: {error}") from None
            for row in np.flatnonzero(found.wrong).tolist():
                place = self._place(None if numbers is None else int(numbers[row]))
                wrong.setdefault(row, f"{where}, {place}: {does_not_fit(array, row, wanted)}")
            made.append(as_polars(pa.table({name: found.values}))[name])
        return frame.with_columns(made), wrong

    @property
    def _partitions(self) -> tuple[str, ...]:
        return tuple(key for key, _ in self.files[0].partitions) if self.files else ()

    def _own(self, name: str) -> pa.DataType:
        if name in self._partitions:
            return self.wanted.types.field(name).type
        types = NO_TYPES if self.reading is None else self.reading.types
        return types.field(name).type if name in types.names else pa.null()

    def _place(self, number: int | None) -> str:
        """Return the file and row, in words, of a row number within the source."""
        if number is None or not self.files:
            return f"file {self.files[0].path}" if self.files else "no file"
        row = number - self.start + self.offset
        for file in self.files:
            if row < file.rows:
                break
            row -= file.rows
        return f"file {file.path}, row {row}"

    def _scan(self, files: Sequence[SourceFile], parted: Sequence[str]) -> pl.LazyFrame:
        assert self.reading is not None
        frame = pl.scan_parquet(
            [self.reading.prefix + file.path for file in files],
            hive_partitioning=False,
            storage_options=dict(self.reading.options) or None,
            glob=False,
        )
        values = [as_polars(pa.table({name: pa.repeat(self._partition(files[0], name), 1)}))[name] for name in parted]
        return frame.with_columns(pl.lit(value[0], dtype=value.dtype).alias(value.name) for value in values)

    def _partition(self, file: SourceFile, name: str) -> pa.Scalar:
        where = f"{self.wanted.where}, column {name!r}, file {file.path}: it"
        return parse_partition(dict(file.partitions)[name], self.wanted.types.field(name).type, where)

    def _read_arrow(self, own: Sequence[str], parted: Sequence[str]) -> pl.DataFrame:
        """Read by Arrow, which knows every time zone, and convert to UTC for Polars."""
        assert self.reading is not None
        parts = []
        for file, first, last in self._spans():
            table = _read_rows(file.path, self.reading.filesystem, own, first, last)
            columns = {name: convert(one_array(table[name]), self.reading.types.field(name).type) for name in own}
            values = {name: pa.repeat(self._partition(file, name), last - first) for name in parted}
            made = {name: found.values for name, found in columns.items()} | values
            parts.append(pa.table({"__place": pa.repeat(pa.scalar(0, pa.int8()), last - first), **made}))
        return as_polars(pa.concat_tables(parts))

    def _spans(self) -> Iterator[tuple[SourceFile, int, int]]:
        """Yield the files with the first and the end of their rows that belong to this chunk."""
        before = 0
        for file in self.files:
            first, last = max(0, self.offset - before), min(file.rows, self.offset + self.rows - before)
            if first < last or not self.rows:
                yield file, first, max(first, last)
            before += file.rows


def as_arrow(values: pl.Series, own: pa.DataType) -> pa.Array:
    """Return a Polars series as an Arrow array of the type in the files."""
    array = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    return array if pa.types.is_null(own) else convert(array, own).values


def as_polars(table: pa.Table) -> pl.DataFrame:
    """Return an Arrow table as a Polars frame. Its times have no zone, or UTC."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read_rows(path: str, filesystem: pafs.FileSystem, columns: Sequence[str], first: int, last: int) -> pa.Table:
    """Read a file's rows from `first` to before `last`, and only the row groups that hold them."""
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        counts = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        ends = np.cumsum(counts, dtype=np.int64)
        groups = [
            n for n, (end, count) in enumerate(zip(ends, counts, strict=True)) if end > first and end - count < last
        ]
        skipped = int(ends[groups[0]]) - counts[groups[0]] if groups else first
        return file.read_row_groups(groups, columns=list(columns)).slice(first - skipped, last - first)
