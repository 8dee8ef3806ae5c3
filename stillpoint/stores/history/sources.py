"""The Parquet files of a Feast source, read in bounded pieces.

A source below the store's `lake_root` means the lake's committed files; any other path is a file, a folder, a
hive-partitioned folder or a glob, local or on S3. Nothing here knows feature views.
"""

import re
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

from stillpoint.errors import CorruptData, InvalidInput, NothingStored
from stillpoint.lake.arrow_s3 import s3_filesystem
from stillpoint.lake.datasets import ALL_DATES, TABLES, DateRange, dataset_columns
from stillpoint.lake.objects import aws_session, open_objects
from stillpoint.lake.tables import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """Where S3 is and who asks. What is None comes from AWS's own chain (environment, profile, instance)."""

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)

    def at(self, endpoint_url: str | None) -> "S3Access":
        """Return this access at another endpoint, if there is one."""
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
    """Return the lake at `root`. One per process, since a lake remembers the commits that it has read."""
    return Lake(open_objects(root, access.boto_arguments()))


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
class Chunk:
    """Consecutive rows of a source that are read at once. `start` is the number of the first within the source."""

    paths: tuple[str, ...]
    columns: tuple[str, ...]
    offset: int
    rows: int
    start: int
    hive: bool
    options: Mapping[str, str]

    def read(self, columns: Sequence[str], where: pl.Expr | None = None, number: str | None = None) -> pl.DataFrame:
        """Read columns, rows filtered by `where`. `number` names a column of row numbers within the source."""
        return self.scan(columns, where, number).collect()

    def scan(self, columns: Sequence[str], where: pl.Expr | None = None, number: str | None = None) -> pl.LazyFrame:
        """Return what `read` reads, not read yet.

        A column that these files lack is null: files written before a feature existed stay readable.
        """
        if not self.paths:
            return pl.LazyFrame(schema=dict.fromkeys(columns, pl.Null) | ({number: pl.UInt32} if number else {}))
        frame = pl.scan_parquet(
            list(self.paths),
            hive_partitioning=self.hive,
            storage_options=dict(self.options) or None,
            row_index_name=number,
            glob=False,
        ).slice(self.offset, self.rows)
        frame = frame.with_columns(pl.lit(None).alias(name) for name in columns if name not in self.columns)
        if where is not None:
            frame = frame.filter(where)
        if number is not None:
            frame = frame.with_columns((pl.col(number).cast(pl.Int64) - self.offset + self.start).alias(number))
        return frame.select(*columns, *([number] if number else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """The files of a source at one moment. `schema` holds every column of any file, with its Arrow type."""

    name: str
    path: str
    schema: pa.Schema
    groups: tuple["FileGroup", ...]
    filesystem: pafs.FileSystem
    marks: tuple[tuple[str, int, datetime | None], ...]

    @property
    def rows(self) -> int:
        return sum(sum(group.rows) for group in self.groups)

    def chunks(self, limit: int) -> Iterator[Chunk]:
        """Yield the source's rows in order, at most `limit` at a time (always at least one chunk)."""
        start, found = 0, False
        for group in self.groups:
            for first, last in _fill(group.rows, limit):
                total = sum(group.rows[first:last])
                for offset in range(0, total, limit):
                    found = True
                    yield group.chunk(first, last, offset, min(limit, total - offset), start)
                    start += min(limit, total - offset)
        if not found:
            yield Chunk(paths=(), columns=(), offset=0, rows=0, start=0, hive=False, options={})

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
    """Files with equal columns."""

    paths: tuple[str, ...]
    rows: tuple[int, ...]
    columns: tuple[str, ...]
    hive: bool
    options: Mapping[str, str]

    def chunk(self, first: int, last: int, offset: int, rows: int, start: int) -> Chunk:
        return Chunk(
            paths=self.paths[first:last],
            columns=self.columns,
            offset=offset,
            rows=rows,
            start=start,
            hive=self.hive,
            options=self.options,
        )


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
    schema = dataset_columns(dataset)
    filesystem, root = lake.objects.arrow()
    if schema is None:
        if not files:
            raise NothingStored(f"source {name!r}: the lake {lake.root} holds no committed file of {dataset!r}")
        schema = pq.read_schema(f"{root}/{files[0].path}", filesystem=filesystem)
    is_s3 = lake.root.startswith("s3://")
    # A compacted day is written again at its path, by a later compaction or an erasure: its commit's count is not its own.
    rewritten = [file.path for file in files if file.path.startswith(TABLES)]
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(lambda path: pq.read_metadata(f"{root}/{path}", filesystem=filesystem).num_rows, rewritten)
        counts = dict(zip(rewritten, found, strict=True))
    marks = filesystem.get_file_info([f"{root}/{path}" for path in rewritten])
    group = FileGroup(
        paths=tuple(f"{lake.root}/{file.path}" for file in files),
        rows=tuple(counts.get(file.path, file.rows) for file in files),
        columns=tuple(schema.names),
        hive=False,
        options=access.polars_options() if is_s3 else {},
    )
    return SourceTable(
        name=name,
        path=f"{lake.root}/{dataset}",
        schema=schema,
        groups=(group,),
        filesystem=filesystem,
        marks=tuple((info.path, info.size, info.mtime) for info in marks),
    )


def open_path(path: str, name: str, access: S3Access) -> SourceTable:
    """Return the Parquet files of a file, folder or glob, in order of paths, those that were pushed last and by their times.

    Raises:
        InvalidInput: there is no such file, or a folder holds none, or one is not Parquet.
    """
    filesystem, inner = filesystem_of(path, access)
    infos = _files(filesystem, inner, name, path)
    base = _literal_base(inner)

    def footer(info: pafs.FileInfo) -> pq.FileMetaData:
        try:
            return pq.read_metadata(info.path, filesystem=filesystem)
        except pa.ArrowInvalid as error:
            raise InvalidInput(f"source {name!r}: {info.path} is not a Parquet file: {error}") from None

    with ThreadPoolExecutor(8) as pool:
        footers = list(pool.map(footer, infos))
    prefix = "s3://" if path.startswith("s3://") else ""
    hive = any("=" in part for info in infos for part in info.path[len(base) :].split("/")[:-1])
    merged: dict[str, pa.DataType] = {}
    groups: list[FileGroup] = []
    previous: pa.Schema | None = None
    for info, found in zip(infos, footers, strict=True):
        schema = found.schema.to_arrow_schema().remove_metadata()
        partitions = _partitions(info.path[len(base) :]) if hive else ()
        for column in schema:
            merged.setdefault(column.name, column.type)
        for key in partitions:
            merged.setdefault(key, pa.null())
        columns = (*schema.names, *(key for key in partitions if key not in schema.names))
        same = previous is not None and previous.equals(schema) and groups[-1].columns == columns
        before = groups.pop() if same else None
        groups.append(
            FileGroup(
                paths=(*(before.paths if before else ()), prefix + info.path),
                rows=(*(before.rows if before else ()), found.num_rows),
                columns=columns,
                hive=hive,
                options=access.polars_options() if prefix else {},
            )
        )
        previous = schema
    return SourceTable(
        name=name,
        path=path,
        schema=pa.schema([pa.field(key, kind) for key, kind in merged.items()]),
        groups=tuple(groups),
        filesystem=filesystem,
        marks=tuple((info.path, info.size, info.mtime) for info in infos),
    )


def filesystem_of(path: str, access: S3Access) -> tuple[pafs.FileSystem, str]:
    """Return the filesystem of a path and the path within it."""
    if path.startswith("s3://"):
        return access.filesystem(), path.removeprefix("s3://").rstrip("/")
    if "://" in path and not path.startswith("file://"):
        filesystem, inner = pafs.FileSystem.from_uri(path)
        return filesystem, inner
    return pafs.LocalFileSystem(), _canonical(path)


def _files(filesystem: pafs.FileSystem, inner: str, name: str, path: str) -> list[pafs.FileInfo]:
    base = _literal_base(inner)
    info = filesystem.get_file_info(base)
    if info.type == pafs.FileType.NotFound:
        raise NothingStored(f"source {name!r}: no file or folder at {path}")
    if info.type == pafs.FileType.File:
        return [info]
    below = filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    files = sorted(
        (
            found
            for found in below
            if found.type == pafs.FileType.File
            and not any(part.startswith(("_", ".")) for part in found.path[len(base) :].split("/"))
        ),
        key=lambda found: (pushed_at(found.base_name), found.path),
    )
    if base != inner:
        pattern = _glob_pattern(inner)
        files = [found for found in files if pattern.fullmatch(found.path)]
    elif any(found.path.endswith(".parquet") for found in files):
        files = [found for found in files if found.path.endswith(".parquet")]
    if not files:
        raise NothingStored(f"source {name!r}: {path} holds no Parquet file")
    return files


def pushed_name(at: int, unique: str) -> str:
    """Return the name of a file that a push adds to a folder, `at` being its time in microseconds."""
    return f"pushed-{at:020d}-{unique}.parquet"


def pushed_at(name: str) -> int:
    """Return the time of a file's push from its name, -1 for one that no push of ours added: pushes were stored last."""
    found = _PUSHED.fullmatch(name)
    return -1 if found is None else int(found[1])


_PUSHED = re.compile(r"pushed-([0-9]{20})-[0-9a-f-]+\.parquet")


def _literal_base(inner: str) -> str:
    """Return the part of a path before its first wildcard, up to a slash."""
    wild = re.search(r"[*?\[]", inner)
    return inner if wild is None else inner[: wild.start()].rpartition("/")[0] or "/"


def _glob_pattern(glob: str) -> re.Pattern[str]:
    """Return a pattern for whole paths: `*` stays within a folder, `**/` crosses them."""
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", glob)
    return re.compile("".join(tokens.get(p, p if p.startswith("[") else re.escape(p)) for p in parts))


def _partitions(relative: str) -> tuple[str, ...]:
    return tuple(part.partition("=")[0] for part in relative.split("/")[:-1] if "=" in part)


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
