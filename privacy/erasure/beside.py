"""Finds files in the lake outside its datasets and documents that mention a user.

Artifacts of training jobs are ours: they hold the id mapping, which the lake has copied, and are deleted. So are unfinished writes of
killed processes. Anything else is foreign: the receipt names it, and it is not changed.
"""

import gzip
import json
import tarfile
import zlib
from collections.abc import Iterator, Set
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from privacy.erasure.receipt import REQUESTS
from privacy.erasure.rows import mentioned
from stillpoint.lake.checkpoint import CHECKPOINTS
from stillpoint.lake.datasets import TABLES, is_declared
from stillpoint.lake.tables import Lake
from stillpoint.messages import LONGEST_USER_ID
from stillpoint.outages import outage

ARTIFACTS = "sagemaker/"
_MAPPING = "mapping.json"
OWN_DOCUMENTS = (
    "commits/",
    CHECKPOINTS,
    "leases/",
    "erasures/",
    REQUESTS,
    "stream/",
    "models/",
    "releases/",
    "reports/",
    "iceberg/",
)
_CHUNK = 8 * 1024 * 1024
_STAGED = ".staged-"


def our_datasets(lake: Lake) -> set[str]:
    """Return the datasets that commits name."""
    return {file.dataset for commit in lake.commits() for file in commit.files}


def is_ours(key: str, committed: set[str]) -> bool:
    """Return whether a Parquet file lies where only Stillpoint writes: in a dataset of ours, or in one that commits name."""
    dataset = key.removeprefix(TABLES).partition("/date=")[0]
    return dataset in committed or is_declared(dataset)


def job_artifacts(lake: Lake, users: Set[str]) -> Iterator[tuple[str, Set[str]]]:
    """Yield the keys of training jobs' artifacts whose id mapping contains users, with these users."""
    filesystem, root = lake.objects.arrow()
    for key in list(lake.objects.list(ARTIFACTS)):
        if not key.endswith(".tar.gz"):
            continue
        try:
            with (
                filesystem.open_input_stream(f"{root}/{key}", compression=None) as source,
                tarfile.open(fileobj=source, mode="r|gz") as archive,
            ):
                for member in archive:
                    file = archive.extractfile(member) if Path(member.name).name == _MAPPING else None
                    if file is not None and (found := users & set(json.load(file).get("user_ids", ()))):
                        yield key, found
                        break
        except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
            if outage(error) is not None:
                raise
            continue  # `foreign` names it, if it mentions the user


def unfinished_writes(lake: Lake, *, before: datetime) -> Iterator[Path]:
    """Yield temporary files of writes that were killed before a moment, for a lake in a folder. S3 keeps nothing of a killed put."""
    filesystem, root = lake.objects.arrow()
    if isinstance(filesystem, pafs.LocalFileSystem):
        for path in Path(root).rglob(f"{_STAGED}*"):
            if path.is_file() and path.stat().st_mtime < before.timestamp():
                yield path


def foreign(lake: Lake, users: Set[str]) -> Iterator[tuple[str, Set[str]]]:
    """Yield a line for each foreign file that mentions users, with these users, or that cannot be read, with all of them."""
    committed = our_datasets(lake)
    filesystem, root = lake.objects.arrow()
    for key in list(lake.objects.list("")):
        parquet = key.endswith(".parquet")
        if key.startswith(OWN_DOCUMENTS) or (parquet and (key.startswith("snapshots/") or is_ours(key, committed))):
            continue
        named = mentioned(key.replace(".", " ").encode(), users)
        if named:
            yield f"{key}: is named after the user, and is not ours", named
        try:
            if parquet:
                found = _in_table(filesystem, f"{root}/{key}", users)
            else:
                found = set[str]().union(*(mentioned(text, users) for text in _texts(filesystem, f"{root}/{key}")))
        except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
            if outage(error) is not None:
                raise
            yield f"{key}: cannot be looked into ({str(error).splitlines()[0][:120]})", set(users) - named
            continue
        if found - named:
            yield f"{key}: holds the user, and is no dataset of this lake", found - named


def _in_table(filesystem: pafs.FileSystem, path: str, users: Set[str]) -> set[str]:
    ids = pa.array(sorted(users), pa.string())
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source)
        texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        found: set[str] = set()
        for batch in file.iter_batches(columns=texts) if texts else ():
            for column in batch.columns:
                found.update(column.filter(pc.is_in(column, value_set=ids)).to_pylist())
        return found


def _texts(filesystem: pafs.FileSystem, path: str) -> Iterator[bytes]:
    """Yield a file's bytes, unpacked if gzip, in parts that overlap by more than the longest id."""
    with filesystem.open_input_stream(path, compression=None) as source:
        opened = gzip.GzipFile(fileobj=source) if path.endswith(".gz") else source
        kept = b""
        while part := opened.read(_CHUNK):
            yield kept + part
            kept = part[-2 * LONGEST_USER_ID :]
