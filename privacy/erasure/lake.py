"""Removes a user from the lake while others read and write it.

First, new files without the user's rows supersede the old ones in one commit: from then on no reader of commits sees those rows. Later,
under the leases of jobs that read old files or write in place, every file with the user's rows is deleted, whether a commit names it or
not. Each step can be repeated after a kill at any point.
"""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from privacy.erasure.beside import foreign, is_ours, job_artifacts, our_datasets, unfinished_writes
from privacy.erasure.rows import about, mentions, user_columns
from privacy.erasure.versions import VersionErasure, purge_versions
from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.features.declarations import USER_SEQUENCE
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import TABLES, feature_dataset, snapshot_rows
from stillpoint.lake.objects import S3Objects
from stillpoint.lake.tables import COMPRESSION, Lake
from stillpoint.model import ModelBundle
from stillpoint.outages import outage

_THREADS = 8
_AT_ONCE = 16
_SMALL_ROWS = 20_000
SNAPSHOTS = "snapshots/"


@dataclass(slots=True)
class LakeErasure:
    """One user's erasure from one lake. `removed` counts rows by dataset, `files` what was deleted."""

    lake: Lake
    user_id: str
    run: str
    removed: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    snapshots: set[str] = field(default_factory=set)
    documents: Counter[str] = field(default_factory=Counter)
    skipped: set[str] = field(default_factory=set)
    unfinished: int = 0
    versions: VersionErasure = field(default_factory=VersionErasure)
    _clear: set[str] = field(default_factory=set)
    """Files that this run has read and that hold no rows of the user; their paths are never written again."""
    _commits: int = 0

    def supersede(self, *, at: datetime) -> None:
        """Supersede all files with rows of the user in one commit; files below `tables/` keep their path and are replaced."""
        gone = {path for commit in self.lake.commits() for path in commit.supersedes}
        live = [file for commit in self.lake.commits() for file in commit.files if file.path not in gone and file.rows]
        added: list[CommittedFile] = []
        superseded: list[str] = []
        for file, kept, count in self._holding(live):
            if file.path.startswith(TABLES):
                self.lake.objects.put(file.path, _parquet(kept))
            else:
                superseded.append(file.path)
                if kept.num_rows:
                    name = f"erase-{self.run}-{self._commits:04d}-{len(superseded):06d}"
                    added.append(self.lake.write(file.dataset, file.date, name, kept))
            self.removed[file.dataset] += count
        if superseded:
            self.lake.commit(
                Commit(
                    writer=f"erase-{self.run}",
                    sequence=self._commits,
                    at=at,
                    files=tuple(added),
                    supersedes=tuple(superseded),
                )
            )
            self._commits += 1

    def purge(self) -> None:
        """Delete every file of ours that still has rows of the user. Callers make sure that nobody is reading them."""
        committed = our_datasets(self.lake)
        keys = [
            key
            for key in self.lake.objects.list("")
            if key.endswith(".parquet") and not key.startswith(SNAPSHOTS) and is_ours(key, committed)
        ]
        for key, table in self._read_all(keys):
            dataset = key.removeprefix(TABLES).partition("/date=")[0]
            mask = about(table, self.user_id)
            if not mask.any():
                continue
            if key.startswith(TABLES):
                self.lake.objects.put(key, _parquet(table.filter(pa.array(~mask))))
                self.files[dataset] += 1
            else:
                self.lake.objects.delete(key)
                self.files[dataset] += 1

    def purge_beside(self, *, before: datetime) -> None:
        """Delete job artifacts whose mapping contains the user, and writes killed before the erasure began; name foreign files."""
        for key in job_artifacts(self.lake, self.user_id):
            self.lake.objects.delete(key)
            self.files["artifacts of training jobs"] += 1
        for path in unfinished_writes(self.lake, before=before):
            path.unlink(missing_ok=True)
            self.unfinished += 1
        self.skipped.update(foreign(self.lake, self.user_id))

    def purge_versions(self) -> None:
        """Delete what a versioned bucket still keeps of the user from files that were deleted or replaced."""
        objects = self.lake.objects
        if isinstance(objects, S3Objects):
            self.versions = purge_versions(objects, self.user_id, our_datasets(self.lake))

    def trained_on(self) -> list[str]:
        """Return the keys of models whose snapshot or id mapping contains the user now."""
        found = []
        for key in self.lake.objects.list("models/"):
            try:
                manifest = ModelBundle.load(self.lake.objects.get(key)).manifest
            except CorruptData as error:
                self.skipped.add(f"{key}: {error}")
                continue
            snapshot = f"{SNAPSHOTS}{manifest.snapshot_id}"
            revision = _revision(self.lake, snapshot)
            mapping = feature_dataset(USER_SEQUENCE, manifest.mapping_version)
            paths = [snapshot_rows(snapshot, revision), *(file.path for file in self.lake.files(mapping))]
            if any(self._read(path) is not None for path in paths):
                found.append(key)
        return found

    def revise_snapshots(self) -> None:
        """Rewrite each snapshot that contains the user: new rows, then the manifest that names them, then the other files.

        The manifest counts its revisions; the id stays, as models name it.
        """
        for key in list(self.lake.objects.list(SNAPSHOTS)):
            if not key.endswith("/manifest.json"):
                self._delete_unfinished(key)
                continue
            folder = key.removesuffix("/manifest.json")
            try:
                manifest = self.lake.get_json(key)
                revision = _revision(self.lake, folder)
            except CorruptData as error:
                self.skipped.add(str(error))
                continue
            table = self._read(snapshot_rows(folder, revision))
            if table is not None and (mask := about(table, self.user_id)).any():
                kept = table.filter(pa.array(~mask))
                data = _parquet(kept)
                self.lake.objects.put(snapshot_rows(folder, revision + 1), data)
                positives = int(np.asarray(kept["label"].to_numpy(zero_copy_only=False)).sum())
                changed: dict[str, Any] = {
                    "revision": revision + 1,
                    "rows": kept.num_rows,
                    "positives": positives,
                    "rows_sha256": hashlib.sha256(data).hexdigest(),
                }
                self.lake.put_json(key, {**manifest, **changed})
                self.removed["snapshots"] += int(mask.sum())
                self.snapshots.add(folder.removeprefix(SNAPSHOTS))
                revision += 1
            for other in list(self.lake.objects.list(f"{folder}/rows")):
                if other != snapshot_rows(folder, revision):
                    self.lake.objects.delete(other)

    def _delete_unfinished(self, key: str) -> None:
        """Delete the rows of an unfinished snapshot, which no manifest names, if they contain the user."""
        manifest = f"{key.rpartition('/')[0]}/manifest.json"
        if not key.endswith(".parquet") or self._read(key) is None or manifest in self.lake.objects.list(manifest):
            return
        self.lake.objects.delete(key)
        self.files["snapshots"] += 1

    def revise_documents(self) -> None:
        """Remove the user from releases' canaries, and the user's id from reports."""
        word = mentions(self.user_id)
        for key in [*self.lake.objects.list("releases/"), *self.lake.objects.list("reports/")]:
            data = self.lake.objects.get(key)
            if not word.search(data):
                continue
            if key.endswith("/canaries.json"):
                document = json.loads(data)
                document["canaries"] = [one for one in document["canaries"] if one["user_id"] != self.user_id]
                data = (json.dumps(document, indent=1) + "\n").encode()
            elif key.startswith("reports/"):
                data = word.sub(b"erased", data)
            else:
                self.skipped.add(f"{key}: mentions the user, and is immutable")
                continue
            self.lake.objects.put(key, data)
            self.documents[key.partition("/")[0]] += 1

    def _holding(self, files: list[CommittedFile]) -> Iterator[tuple[CommittedFile, pa.Table, int]]:
        by_path = {file.path: file for file in files}
        small = {file.path for file in files if file.rows <= _SMALL_ROWS}
        for path, table in self._read_all(list(by_path), small):
            if (mask := about(table, self.user_id)).any():
                yield by_path[path], table.filter(pa.array(~mask)), int(mask.sum())

    def _read_all(self, keys: list[str], small: Collection[str] = ()) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows of each file that may contain the user, in order, with only a few files in memory at a time."""
        keys = [key for key in keys if key not in self._clear]
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                for key, table in zip(
                    part, pool.map(lambda one: self._read(one, small=one in small), part), strict=True
                ):
                    if table is not None:
                        yield key, table

    def _read(self, key: str, *, small: bool = False) -> pa.Table | None:
        """Return a file's rows if it may contain the user, else None. A damaged file is skipped and named in `skipped`.

        A small file is fetched whole, which takes one request instead of several.
        """
        if key in self._clear:
            return None
        filesystem, root = self.lake.objects.arrow()
        try:
            source = (
                pa.BufferReader(self.lake.objects.get(key)) if small else filesystem.open_input_file(f"{root}/{key}")
            )
            with source:
                file = pq.ParquetFile(source)
                columns = user_columns(file.schema_arrow)
                if not columns or not about(file.read(columns=columns), self.user_id).any():
                    if not key.startswith((TABLES, SNAPSHOTS)):
                        self._clear.add(key)
                    return None
                return file.read()
        except (FileNotFoundError, ObjectMissing):
            return None
        except (pa.ArrowInvalid, OSError) as error:
            if outage(error) is not None:
                raise
            self.skipped.add(f"{key}: cannot be read ({str(error).splitlines()[0][:120]})")
            return None


def _revision(lake: Lake, folder: str) -> int:
    try:
        return int(str(lake.get_json(f"{folder}/manifest.json").get("revision", 0)))
    except ObjectMissing:
        return 0
    except ValueError as error:
        raise CorruptData(f"{lake.root}/{folder}/manifest.json: {error}") from None


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression=COMPRESSION, coerce_timestamps="us")
    return sink.getvalue()
