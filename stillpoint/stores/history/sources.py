"""The Parquet files of a Feast source, read in bounded pieces, each file in its own type.

A source below the store's `lake_root` means the lake's committed files; any other path is a file, a folder, a
hive-partitioned folder or a glob, local or on S3. This module does not know feature views: `SourceTable.towards` takes
the types that a view declares.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlparse

import polars as pl
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from stillpoint.app.feature_set import feature_set
from stillpoint.app.load import found_app
from stillpoint.errors import CorruptData, InvalidInput, NothingStored
from stillpoint.lake.arrow_s3 import s3_filesystem
from stillpoint.lake.datasets import ALL_DATES, TABLES, DateRange
from stillpoint.lake.objects import aws_session, open_objects
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings
from stillpoint.stores.history.chunks import NO_TYPES, Chunk, FileReading, SourceFile, WantedTypes
from stillpoint.stores.history.column_types import (
    common_type,
    has_other_zone,
    in_utc,
    is_single,
    is_untyped,
    wanted_type,
)
from stillpoint.stores.history.files import find_files, partition_type
from stillpoint.stores.values.exact import is_text


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """S3 endpoint, region and credentials. None means AWS's own chain (environment, profile, instance)."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def at(self, endpoint_url: str | None) -> "S3Access":
        """Return the same access with another endpoint, or unchanged if `endpoint_url` is None."""
        return replace(self, endpoint_url=endpoint_url) if endpoint_url else self

    def filesystem(self) -> pafs.FileSystem:
        """Return pyarrow's filesystem for this access; credentials of AWS's own chain are renewed before they end."""
        endpoint = urlparse(self.endpoint_url or "")
        session = aws_session()
        found = {
            "endpoint_override": endpoint.netloc or None,
            "scheme": endpoint.scheme or None,
            "region": self.region or session.region_name,
            "access_key": self.access_key_id,
            "secret_key": self.secret_access_key,
            "session_token": self.session_token,
        }
        given = {name: value for name, value in found.items() if value}
        return s3_filesystem(None if self.access_key_id else session.get_credentials(), given)

    def polars_options(self) -> dict[str, str]:
        """Return the storage options with which Polars reads the same objects."""
        found = {
            "aws_endpoint_url": self.endpoint_url,
            "aws_region": self.region,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
            "aws_allow_http": "true" if (self.endpoint_url or "").startswith("http://") else None,
        }
        return {name: value for name, value in found.items() if value}

    def boto_arguments(self) -> dict[str, str]:
        """Return the keyword arguments of a boto3 client for this access."""
        found = {
            "endpoint_url": self.endpoint_url,
            "region_name": self.region,
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": self.secret_access_key,
            "aws_session_token": self.session_token,
        }
        return {name: value for name, value in found.items() if value}


@lru_cache(maxsize=16)
def open_lake(root: str, access: S3Access) -> Lake:
    """Return the lake at `root`; cached per process, since a lake caches the commits that it has read.

    Datasets of the app that the settings name have its columns; without an app they are as they were written.
    """
    app = found_app(Settings.load().app)
    return Lake(open_objects(root, access.boto_arguments()), feature_set(()) if app is None else app.features)


def lake_dataset(path: str, lake_root: str | None) -> str | None:
    """Return the lake's dataset that a path means, or None if it lies outside the lake."""
    if lake_root is None:
        return None
    root, path = _canonical(lake_root), _canonical(path)
    return path.removeprefix(root + "/") if path.startswith(root + "/") else None


def _canonical(path: str) -> str:
    path = path.removeprefix("file://")
    return path.rstrip("/") if "://" in path else str(Path(path).absolute())


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """The files of a source at one moment. `wanted` has every column of any file, with the type to convert it to."""

    name: str
    path: str
    wanted: WantedTypes
    groups: tuple["FileGroup", ...]
    filesystem: pafs.FileSystem
    marks: tuple[tuple[str, int, datetime | None], ...]

    @property
    def schema(self) -> pa.Schema:
        """Every column with its type: the declared one, or the common type of all files."""
        return self.wanted.types

    @property
    def rows(self) -> int:
        return sum(file.rows for group in self.groups for file in group.files)

    def types_of(self, column: str) -> set[pa.DataType]:
        """Return the types that a column has in the files; files without rows count only if all are empty."""
        found: dict[bool, set[pa.DataType]] = {True: set(), False: set()}
        for group in self.groups:
            if column in group.reading.types.names and column not in group.partitions:
                kind = group.reading.types.field(column).type
                found[any(file.rows for file in group.files)].add(kind)
        return found[True] or found[False]

    def towards(self, declared: Mapping[str, pa.DataType], where: str) -> "SourceTable":
        """Return the source with declared types for some columns; `where` begins the texts of conversion errors."""
        types = []
        for found in self.schema:
            kind = declared.get(found.name)
            stored = self.types_of(found.name)
            common = common_type(stored)
            if common is None:
                # The files hold different kinds of values; those that do not fit the declared type are refused on reading.
                types.append(found.type if kind is None else kind)
            else:
                types.append(wanted_type(kind, found.type if kind is None and not stored else common))
        nearest = frozenset(name for name, kind in declared.items() if is_single(kind))
        wanted = WantedTypes(types=pa.schema(zip(self.schema.names, types, strict=True)), where=where, nearest=nearest)
        return replace(self, wanted=wanted)

    def columns_to_write(self, declared: Mapping[str, pa.DataType]) -> pa.Schema:
        """Return the columns of a new file beside these: the files' types where they agree, declared ones elsewhere."""
        types = []
        for column in self.schema:
            stored = {kind for kind in self.types_of(column.name) if not is_untyped(kind)}
            types.append(stored.pop() if len(stored) == 1 else declared.get(column.name, column.type))
        return pa.schema(zip(self.schema.names, types, strict=True))

    def chunks(self, limit: int) -> Iterator[Chunk]:
        """Yield the source's rows in order, at most `limit` at a time (always at least one chunk)."""
        start, found = 0, False
        for group in self.groups:
            for first, last in _fill([file.rows for file in group.files], limit):
                files = group.files[first:last]
                total = sum(file.rows for file in files)
                for offset in range(0, total, limit):
                    found = True
                    rows = min(limit, total - offset)
                    yield Chunk(
                        files=files, reading=group.reading, wanted=self.wanted, offset=offset, rows=rows, start=start
                    )
                    start += rows
        if not found:
            yield Chunk(files=(), reading=None, wanted=self.wanted, offset=0, rows=0, start=0)

    def verify_unchanged(self) -> None:
        """Refuse if a file was replaced since the source was opened: row numbers would point at other rows.

        Raises:
            CorruptData: names the file.
        """
        infos = self.filesystem.get_file_info([path for path, _, _ in self.marks])
        for (path, size, modified), info in zip(self.marks, infos, strict=True):
            if info.type != pafs.FileType.File or (info.size, info.mtime) != (size, modified):
                raise CorruptData(f"source {self.name!r}: {path} was replaced while it was being read; run again")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """Consecutive files of equal types, below folders that name the same columns."""

    files: tuple[SourceFile, ...]
    reading: FileReading

    @property
    def partitions(self) -> tuple[str, ...]:
        return _keys(self.files[0])


def _fill(rows: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of consecutive files that hold at most `limit` rows together, or one larger file alone."""
    first, held = 0, 0
    for index, count in enumerate(rows):
        if held and held + count > limit:
            yield first, index
            first, held = index, 0
        held += count
    if held:
        yield first, len(rows)


def open_lake_dataset(
    lake: Lake, dataset: str, name: str, access: S3Access, between: DateRange = ALL_DATES
) -> SourceTable:
    """Return the committed files of a lake's dataset. Dates prune whole files where they are dates of events.

    Raises:
        InvalidInput: the dataset is free in form and holds nothing, so its columns are unknown.
    """
    dates = between if dataset.startswith("features/") else ALL_DATES
    files = [file for file in lake.files_as_stored(dataset, dates) if file.rows]
    schema = lake.columns(dataset)
    filesystem, root = lake.objects.arrow()
    if schema is None and not files:
        raise NothingStored(f"source {name!r}: the lake {lake.root} holds no committed file of {dataset!r}")
    # A compacted day is rewritten at its path by later compactions and erasures, so the row count in its commit is outdated.
    rewritten = [file.path for file in files if file.path.startswith(TABLES)]
    # Files of a dataset without declared columns may differ; the others are written with the declared columns.
    looked_at = rewritten if schema is not None else [file.path for file in files]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda path: pq.read_metadata(f"{root}/{path}", filesystem=filesystem), looked_at)
        footers = dict(zip(looked_at, found, strict=True))
    marks = filesystem.get_file_info([f"{root}/{path}" for path in rewritten])
    is_s3 = lake.root.startswith("s3://")
    return _source(
        name,
        f"{lake.root}/{dataset}",
        [
            (
                SourceFile(
                    path=f"{root}/{file.path}", rows=footers[file.path].num_rows if file.path in footers else file.rows
                ),
                footers[file.path].schema.to_arrow_schema() if schema is None else schema,
            )
            for file in files
        ],
        NO_TYPES if schema is None else schema,
        filesystem,
        marks,
        access if is_s3 else None,
    )


def open_path(path: str, name: str, access: S3Access) -> SourceTable:
    """Return the Parquet files of a file, folder or glob, in order of paths, those that were pushed last and by their times.

    Raises:
        InvalidInput: there is no such file, or a folder holds none, or one is not Parquet.
    """
    filesystem, inner = filesystem_of(path, access)
    found = find_files(filesystem, inner, name, path)

    def footer(info: pafs.FileInfo) -> pq.FileMetaData:
        try:
            return pq.read_metadata(info.path, filesystem=filesystem)
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"source {name!r}: {info.path} is not a Parquet file: {error}") from None

    with ThreadPoolExecutor(8) as pool:
        footers = list(pool.map(footer, found.files))
    files = [
        (
            SourceFile(path=info.path, rows=read.num_rows, partitions=found.partitions(info.path)),
            read.schema.to_arrow_schema(),
        )
        for info, read in zip(found.files, footers, strict=True)
    ]
    return _source(name, path, files, NO_TYPES, filesystem, found.files, access if path.startswith("s3://") else None)


def _source(
    name: str,
    path: str,
    files: Sequence[tuple[SourceFile, pa.Schema]],
    known: pa.Schema,
    filesystem: pafs.FileSystem,
    marks: Sequence[pafs.FileInfo],
    access: S3Access | None,
) -> SourceTable:
    """Group consecutive files of equal types, and determine each column's type if no view declares one."""
    runs: list[tuple[pa.Schema, list[SourceFile]]] = []
    kinds: dict[str, pa.DataType] = {field.name: in_utc(field.type) for field in known}
    texts: dict[str, list[str | None]] = {}
    for file, schema in files:
        for key, text in file.partitions:
            texts.setdefault(key, []).append(text)
        same = bool(runs) and runs[-1][0].equals(schema)
        if same and _keys(runs[-1][1][0]) == _keys(file):
            runs[-1][1].append(file)
        else:
            runs.append((schema, [file]))
        if not same:
            kinds = {field.name: in_utc(field.type) for field in schema} | kinds
    kinds |= {key: partition_type(found) for key, found in texts.items()}
    unread = WantedTypes(types=pa.schema(list(kinds.items())), where=f"source {name!r}")
    groups = tuple(FileGroup(files=tuple(run), reading=_reading(schema, filesystem, access)) for schema, run in runs)
    marked = tuple((info.path, info.size, info.mtime) for info in marks)
    table = SourceTable(name=name, path=path, wanted=unread, groups=groups, filesystem=filesystem, marks=marked)
    return table.towards({}, unread.where)


def _keys(file: SourceFile) -> tuple[str, ...]:
    return tuple(key for key, _ in file.partitions)


def _reading(schema: pa.Schema, filesystem: pafs.FileSystem, access: S3Access | None) -> FileReading:
    return FileReading(
        types=pa.schema([pa.field(field.name, in_utc(field.type)) for field in schema]),
        encoded=tuple(
            field.name for field in schema if pa.types.is_dictionary(field.type) and is_text(field.type.value_type)
        ),
        zoned=any(has_other_zone(field.type) for field in schema),
        prefix="s3://" if access else "",
        options=access.polars_options() if access else {},
        filesystem=filesystem,
    )


def filesystem_of(path: str, access: S3Access) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a path and the path within it."""
    if path.startswith("s3://"):
        return access.filesystem(), path.removeprefix("s3://").rstrip("/")
    if "://" in path and not path.startswith("file://"):
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    return pafs.LocalFileSystem(), _canonical(path)


def utc_micros(column: str, found: pl.DataType, where: str) -> pl.Expr:
    """Return an expression for a timestamp column as microseconds UTC; a time without a zone is UTC, as in Feast.

    Raises:
        InvalidInput: the column holds no times.
    """
    if isinstance(found, pl.Datetime):
        return pl.col(column).dt.timestamp("us")
    if found in (pl.Date, pl.Null):
        return pl.col(column).cast(pl.Datetime("us")).dt.timestamp("us")
    raise InvalidInput(f"{where}: column {column!r} holds {found}; expected timestamps")
