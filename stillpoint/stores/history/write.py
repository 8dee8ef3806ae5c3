"""Appends rows to a source without rewriting history or losing a neighbour's.

A lake source gets new files and a commit, a folder a new file, and a single file is replaced whole, atomically, under a
lock: a reader sees the old file or the new one.
"""

import fcntl
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, dataset_columns
from stillpoint.lake.tables import COMPRESSION, Lake
from stillpoint.stores.history.sources import S3Access, filesystem_of, pushed_at, pushed_name
from stillpoint.stores.rehearsal import is_rehearsal


def write_to_lake(lake: Lake, dataset: str, table: pa.Table, *, event: str, at: datetime) -> None:
    """Add rows to a lake's dataset in one commit: all of them count, or none.

    Raises:
        InvalidInput: the columns are not the dataset's.
    """
    columns = dataset_columns(dataset)
    expected = columns.names if columns is not None else table.column_names
    _check_columns(table, expected, f"{lake.root}/{dataset}")
    if not table.num_rows:
        return
    writer = f"push-{uuid.uuid4()}"
    if columns is not None:
        table = table.select(columns.names).cast(columns, safe=False)
    if is_rehearsal():
        return
    files = tuple(lake.write(dataset, day, writer, part) for day, part in by_date(table, event))
    lake.commit(Commit(writer=writer, sequence=0, at=at.astimezone(UTC), files=files))


def append_to_path(path: str, table: pa.Table, access: S3Access, schema: pa.Schema, *, at: datetime) -> None:
    """Add rows to a folder as a new file, or to a single file by replacing it atomically.

    Raises:
        InvalidInput: the columns are not the source's.
    """
    _check_columns(table, schema.names, path)
    table = table.select(schema.names).cast(schema, safe=False)
    if is_rehearsal():
        return
    filesystem, inner = filesystem_of(path, access)
    if filesystem.get_file_info(inner).type == pafs.FileType.Directory:
        write_file(filesystem, f"{inner}/{_next_name(filesystem, inner, at)}", table)
        return
    with locked(filesystem, inner):
        before = pq.read_table(inner, filesystem=filesystem, partitioning=None).replace_schema_metadata(None)
        write_file(filesystem, inner, pa.concat_tables([before, table.cast(before.schema)]))


def _next_name(filesystem: pafs.FileSystem, folder: str, at: datetime) -> str:
    """Return a name that comes after all pushes so far, even where another machine's clock is ahead."""
    before = [pushed_at(info.base_name) for info in filesystem.get_file_info(pafs.FileSelector(folder))]
    return pushed_name(max([to_micros(at), *(found + 1 for found in before)]), str(uuid.uuid4()))


def write_file(filesystem: pafs.FileSystem, path: str, table: pa.Table) -> None:
    """Write one Parquet file whole; nobody ever reads half of it."""
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
    """Hold the file's lock while it is read and replaced. S3 has none: use a folder where several writers push."""
    if not isinstance(filesystem, pafs.LocalFileSystem):
        yield
        return
    folder, name = os.path.split(path)
    with open(os.path.join(folder, f".{name}.lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_columns(table: pa.Table, expected: list[str], where: str) -> None:
    missing = sorted(set(expected) - set(table.column_names))
    extra = sorted(set(table.column_names) - set(expected))
    if missing or extra:
        raise InvalidInput(
            f"{where}: the rows do not have the source's columns; missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(extra) or 'none'}"
        )
