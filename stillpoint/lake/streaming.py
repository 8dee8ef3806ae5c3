"""Reads and writes files of the lake in bounded memory: a few row groups at a time, files in their order."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.objects import Objects
from stillpoint.lake.tables import COMPRESSION, Lake
from stillpoint.served_rows import SERVED_GROUP

_ROWS = 32_768
_SMALL_ROWS = 100_000
_FILES = 1_000
_GROUP_BYTES = 32 * 1024 * 1024


def stream_rows(
    lake: Lake, files: Sequence[CommittedFile], schema: pa.Schema, *, where: pads.Expression | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of files in the files' order, in small tables with the columns of `schema`.

    Only these columns are read, one that a file lacks as null, and only row groups that may hold rows that fulfil `where`.
    """
    filesystem, root = lake.objects.arrow()
    full = [file for file in files if file.rows]
    for start in range(0, len(full), _FILES):
        part = full[start : start + _FILES]
        ahead = 4 if max(file.rows for file in part) <= _SMALL_ROWS else 0
        paths = [f"{root}/{file.path}" for file in part]
        batches = pads.dataset(paths, schema=schema, filesystem=filesystem, format="parquet").to_batches(
            filter=where, batch_size=_ROWS, batch_readahead=ahead, fragment_readahead=ahead
        )
        yield from (pa.Table.from_batches([batch]) for batch in batches if batch.num_rows)


class ParquetWriting:
    """A Parquet object that is written piece by piece: on this machine first, then at its key at once.

    Used as a context manager. Without `finish` nothing is stored.
    """

    def __init__(
        self,
        objects: Objects,
        key: str,
        schema: pa.Schema,
        *,
        group_rows: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """`group_rows` fixes the rows per row group; by default a group is about 32 MB."""
        self._objects = objects
        self.key = key
        self._schema = schema
        self._group = group_rows
        self._folder = tempfile.TemporaryDirectory(prefix="stillpoint-write-", dir=folder)
        self._path = Path(self._folder.name) / "rows.parquet"
        self._writer = pq.ParquetWriter(self._path, schema, compression=COMPRESSION, coerce_timestamps="us")
        self._held: list[pa.Table] = []
        self._bytes = 0
        self.rows = 0

    def __enter__(self) -> "ParquetWriting":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer.is_open:
            self._writer.close()
        self._folder.cleanup()

    def add(self, table: pa.Table) -> None:
        """Append rows, in the schema's columns."""
        table = table.select(self._schema.names).cast(self._schema)
        self._held.append(table)
        self._bytes += table.nbytes
        self.rows += table.num_rows
        if self._bytes >= _GROUP_BYTES:
            self._write(whole_groups=self._group)

    def finish(self) -> int:
        """Store the object, replacing any, and return its rows."""
        self._write(whole_groups=None)
        self._writer.close()
        self._objects.put_file(self.key, self._path)
        return self.rows

    def _write(self, *, whole_groups: int | None) -> None:
        """Write what is held; if groups have a fixed size, keep back what is left over of the last one."""
        table = pa.concat_tables(self._held) if self._held else self._schema.empty_table()
        self._held, self._bytes = [], 0
        if whole_groups is not None:
            kept = table.num_rows - table.num_rows % whole_groups
            rest, table = table.slice(kept), table.slice(0, kept)
            if rest.num_rows:
                self._held, self._bytes = [rest], rest.nbytes
        if table.num_rows:
            group = self._group or max(1, table.num_rows * _GROUP_BYTES // max(_GROUP_BYTES, table.nbytes))
            self._writer.write_table(table, row_group_size=group)


def new_file(lake: Lake, dataset: str, day: date, name: str, *, folder: Path | None = None) -> ParquetWriting:
    """Begin a file of a declared dataset, at the path that `Lake.write` gives it."""
    columns = lake.columns(dataset)
    if columns is None:
        raise ValueError(f"dataset {dataset} declares no columns")
    group = SERVED_GROUP if dataset == "served" else None
    path = f"{dataset}/date={day.isoformat()}/{name}.parquet"
    return ParquetWriting(lake.objects, path, columns, group_rows=group, folder=folder)


def write_rows(
    lake: Lake, dataset: str, day: date, name: str, tables: Iterable[pa.Table], *, folder: Path | None = None
) -> CommittedFile:
    """Write rows as `Lake.write` does, in bounded memory."""
    with new_file(lake, dataset, day, name, folder=folder) as file:
        for table in tables:
            file.add(table)
        rows = file.finish()
    return CommittedFile(dataset=dataset, date=day, path=file.key, rows=rows)
