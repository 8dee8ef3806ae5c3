"""Appends rows to a source, without rewriting its history, losing another writer's rows or changing a value.

A lake source gets new files and a commit, a folder a new file, and a single file is replaced whole, atomically, under a
lock: a reader sees the old file or the new one.
"""

import fcntl
import io
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date
from stillpoint.lake.tables import COMPRESSION, Lake
from stillpoint.stores.history.column_types import common_type, is_single, is_untyped, wanted_type
from stillpoint.stores.history.files import pushed_at, pushed_name, split_glob
from stillpoint.stores.history.sources import S3Access, filesystem_of
from stillpoint.stores.rehearsal import is_rehearsal
from stillpoint.stores.values.exact import convert_exactly, does_not_fit, first_lost, fits, is_list, one_array


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedRows:
    """Rows that are pushed to a view, with the types that the view declares, by the source's column names."""

    view: str
    table: pa.Table
    types: Mapping[str, pa.DataType] = field(default_factory=dict)

    def fitted(self, columns: pa.Schema, where: str) -> pa.Table:
        """Return the rows converted to the view's declared types, and then exactly to the source's columns.

        Raises:
            InvalidInput: the columns are not the source's, or one cannot hold a value; names view, column, row and value.
        """
        _check_columns(self.table, columns.names, where)
        return pa.table([self._column(column) for column in columns], schema=columns)

    @property
    def columns(self) -> pa.Schema:
        """The rows' own columns, as the view declares them."""
        index = _index_columns(self.table)
        return pa.schema([(f.name, self._declared(f.name, f.type)) for f in self.table.schema if f.name not in index])

    def _declared(self, column: str, found: pa.DataType) -> pa.DataType:
        return wanted_type(self.types.get(column), common_type([found]) or found)

    def _column(self, column: pa.Field) -> pa.Array:
        where = f"view {self.view!r}, column {column.name!r}"
        given = one_array(self.table[column.name])
        declared = self._declared(column.name, given.type)
        array = convert_exactly(given, declared, where, nearest=is_single(declared))
        if is_list(given.type):  # NaN as a whole number is pandas's null; inside a list it would become a null item
            _refuse_lost(given, array, where)
        # A file may hold another kind of values than declared, such as dates for text: it gets the pushed values unchanged.
        values = array if fits(array.type, column.type) else given
        kept = convert_exactly(values, column.type, where)
        _refuse_lost(values, kept, where)
        return kept


def write_to_lake(lake: Lake, dataset: str, pushed: PushedRows, *, event: str, at: datetime) -> None:
    """Add rows to a lake's dataset in one commit, which takes effect for all rows or none.

    Raises:
        InvalidInput: the columns are not the dataset's, or one cannot hold a value.
    """
    table = pushed.fitted(lake.columns(dataset) or pushed.columns, f"{lake.root}/{dataset}")
    if not table.num_rows:
        return
    writer = f"push-{uuid.uuid4()}"
    if is_rehearsal():
        return
    files = tuple(lake.write(dataset, day, writer, part) for day, part in by_date(table, event))
    lake.commit(Commit(writer=writer, sequence=0, at=at.astimezone(UTC), files=files))


def append_to_path(path: str, pushed: PushedRows, access: S3Access, schema: pa.Schema, *, at: datetime) -> None:
    """Add rows to a folder as a new file, or to a single file by replacing it atomically.

    Raises:
        InvalidInput: the path is a glob, the columns are not the source's, or one cannot hold a value.
    """
    filesystem, inner = filesystem_of(path, access)
    if split_glob(filesystem, inner)[1] is not None:
        raise InvalidInput(
            f"view {pushed.view!r}: a push cannot choose a file of the glob {path}; "
            "let the source's path be a folder or one file"
        )
    if filesystem.get_file_info(inner).type == pafs.FileType.Directory:
        table = pushed.fitted(schema, path)
        if not is_rehearsal():
            write_file(filesystem, f"{inner}/{_next_name(filesystem, inner, at)}", table)
        return
    if is_rehearsal():
        pushed.fitted(_typed_nulls(pq.read_schema(inner, filesystem=filesystem), schema), path)
        return
    with locked(filesystem, inner):
        before = pq.read_table(inner, filesystem=filesystem, partitioning=None).replace_schema_metadata(None)
        columns = _typed_nulls(before.schema, schema)
        kept = [convert_exactly(before[column.name], column.type, path) for column in columns]
        added = pushed.fitted(columns, path)
        write_file(filesystem, inner, pa.concat_tables([pa.table(kept, schema=columns), added]))


def _refuse_lost(before: pa.Array, after: pa.Array, where: str) -> None:
    """Refuse NaN that a column of no floats would keep as nothing.

    Raises:
        InvalidInput: names the row and the value after `where`.
    """
    row = first_lost(before, after)
    if row is not None:
        raise InvalidInput(f"{where}, row {row}: {does_not_fit(before, row, after.type)}")


def _typed_nulls(stored: pa.Schema, wanted: pa.Schema) -> pa.Schema:
    """Return a file's columns; a column of nulls alone takes the type of the first values written to it."""
    return pa.schema([wanted.field(column.name) if is_untyped(column.type) else column for column in stored])


def _next_name(filesystem: pafs.FileSystem, folder: str, at: datetime) -> str:
    """Return a name that comes after all pushes so far, even where another machine's clock is ahead."""
    before = [pushed_at(info.base_name) for info in filesystem.get_file_info(pafs.FileSelector(folder))]
    return pushed_name(max([to_micros(at), *(found + 1 for found in before)]), str(uuid.uuid4()))


def write_file(filesystem: pafs.FileSystem, path: str, table: pa.Table) -> None:
    """Write one Parquet file atomically; a reader never sees half of it."""
    if not isinstance(filesystem, pafs.LocalFileSystem):
        sink = io.BytesIO()
        pq.write_table(table, sink, compression=COMPRESSION)
        with filesystem.open_output_stream(path) as stream:
            stream.write(sink.getvalue())
        return
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    staged = os.path.join(folder, f".staged-{uuid.uuid4()}-{name}")
    try:
        pq.write_table(table, staged, compression=COMPRESSION)
        os.replace(staged, path)
    finally:
        Path(staged).unlink(missing_ok=True)


@contextmanager
def locked(filesystem: pafs.FileSystem, path: str) -> Iterator[None]:
    """Hold the file's lock while it is read and replaced. There are no locks on S3: let several writers push to a folder."""
    if not isinstance(filesystem, pafs.LocalFileSystem):
        yield
        return
    folder, name = os.path.split(path)
    with open(os.path.join(folder, f".{name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_columns(table: pa.Table, expected: list[str], where: str) -> None:
    missing = sorted(set(expected) - set(table.column_names))
    extra = sorted(set(table.column_names) - set(expected) - _index_columns(table))
    if missing or extra:
        raise InvalidInput(
            f"{where}: the rows do not have the source's columns; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(extra) or 'none'}"
        )


def _index_columns(table: pa.Table) -> set[str]:
    """Return the columns that Arrow made of an unnamed pandas index; they are no columns of the rows."""
    return {name for name in table.column_names if re.fullmatch(r"__index_level_\d+__", name)}
