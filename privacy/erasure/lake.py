"""Removes users from the lake while others read and write it, all of them in one pass.

First, new files without the users' rows supersede the old ones in one commit: from then on no reader of commits sees those rows. Later,
under the leases of jobs that read old files or write in place, every file with the users' rows is deleted, whether a commit names it or
not. Files are read and written some rows at a time. Each step can be repeated after a kill at any point.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy.erasure.beside import foreign, is_ours, job_artifacts, our_datasets, unfinished_writes
from privacy.erasure.files import users_in, write_without
from privacy.erasure.rows import mentioned, mentions
from privacy.erasure.versions import VersionErasure, purge_versions
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import TABLES, feature_dataset, snapshot_rows
from stillpoint.lake.objects import S3Objects
from stillpoint.lake.tables import Lake
from stillpoint.model import ModelBundle
from stillpoint.outages import outage

_THREADS = 8
_AT_ONCE = 16
_SMALL_ROWS = 20_000
_CHUNK = 4 * 1024 * 1024
SNAPSHOTS = "snapshots/"


@dataclass(slots=True)
class UserTraces:
    """What was removed of one user: rows by dataset, files and documents by folder. `skipped` names what was left."""

    removed: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    documents: Counter[str] = field(default_factory=Counter)
    snapshots: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)


@dataclass(slots=True)
class LakeErasure:
    """The erasure of some users from one lake. `traces` tells of each; `skipped` names files that cannot be read."""

    lake: Lake
    users: frozenset[str]
    run: str
    traces: dict[str, UserTraces] = field(init=False)
    skipped: set[str] = field(default_factory=set)
    unfinished: int = 0
    versions: VersionErasure = field(default_factory=VersionErasure)
    _clear: set[str] = field(default_factory=set)
    """Files that this run has read and that hold no rows of the users; their paths are never written again."""
    _damaged: set[str] = field(default_factory=set)
    """Files with rows of the users that cannot be read whole."""
    _commits: int = 0

    def __post_init__(self) -> None:
        self.traces = {user: UserTraces() for user in self.users}

    def supersede(self, *, at: datetime) -> None:
        """Supersede all files with rows of the users in one commit; files below `tables/` keep their path and are replaced."""
        gone = {path for commit in self.lake.commits() for path in commit.supersedes}
        live = [file for commit in self.lake.commits() for file in commit.files if file.path not in gone and file.rows]
        by_path = {file.path: file for file in live}
        small = {file.path for file in live if file.rows <= _SMALL_ROWS}
        added: list[CommittedFile] = []
        superseded: list[str] = []
        for path, counts in self._holding(list(by_path), small):
            file = by_path[path]
            name = f"erase-{self.run}-{self._commits:04d}-{len(superseded):06d}"
            own = f"{file.dataset}/date={file.date.isoformat()}/{name}.parquet"
            new = path if path.startswith(TABLES) else own
            rows = self._rewrite(path, new)
            if rows is None:
                continue
            if new != path:
                superseded.append(path)
                if rows:
                    added.append(CommittedFile(dataset=file.dataset, date=file.date, path=new, rows=rows))
                else:
                    self.lake.objects.delete(new)
            for user, count in counts.items():
                self.traces[user].removed[file.dataset] += count
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
        """Delete every file of ours that still has rows of the users. Callers make sure that nobody is reading them."""
        committed = our_datasets(self.lake)
        keys = [
            key
            for key in self.lake.objects.list("")
            if key.endswith(".parquet") and not key.startswith(SNAPSHOTS) and is_ours(key, committed)
        ]
        for key, counts in self._holding(keys):
            if key.startswith(TABLES):
                if self._rewrite(key, key) is None:
                    continue
            elif key in self._damaged:
                continue  # others' rows may be saved from it
            else:
                self.lake.objects.delete(key)
            for user in counts:
                self.traces[user].files[key.removeprefix(TABLES).partition("/date=")[0]] += 1

    def purge_beside(self, *, before: datetime) -> None:
        """Delete job artifacts whose mapping contains a user, and writes killed before the erasure began; name foreign files."""
        for key, users in job_artifacts(self.lake, self.users):
            self.lake.objects.delete(key)
            for user in users:
                self.traces[user].files["artifacts of training jobs"] += 1
        for path in unfinished_writes(self.lake, before=before):
            path.unlink(missing_ok=True)
            self.unfinished += 1
        for line, users in foreign(self.lake, self.users):
            for user in users:
                self.traces[user].skipped.add(line)

    def purge_versions(self) -> None:
        """Delete what a versioned bucket still keeps of the users from files that were deleted or replaced."""
        objects = self.lake.objects
        if isinstance(objects, S3Objects):
            self.versions = purge_versions(objects, self.users, our_datasets(self.lake))

    def trained_on(self) -> dict[str, list[str]]:
        """Return for each user the keys of models whose snapshot or id mapping contains the user now."""
        found: dict[str, list[str]] = {user: [] for user in self.users}
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
            for user in {user for path in paths for user in self._look(path)}:
                found[user].append(key)
        return found

    def revise_snapshots(self) -> None:
        """Rewrite each snapshot that contains a user: new rows, then the manifest that names them, then the other files.

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
            counts = self._look(snapshot_rows(folder, revision))
            if counts:
                new = snapshot_rows(folder, revision + 1)
                if self._rewrite(snapshot_rows(folder, revision), new) is None:
                    continue
                self.lake.put_json(key, {**manifest, "revision": revision + 1, **self._described(new)})
                for user, count in counts.items():
                    self.traces[user].removed["snapshots"] += count
                    self.traces[user].snapshots.add(folder.removeprefix(SNAPSHOTS))
                revision += 1
            for other in list(self.lake.objects.list(f"{folder}/rows")):
                if other != snapshot_rows(folder, revision):
                    self.lake.objects.delete(other)

    def _described(self, rows: str) -> dict[str, Any]:
        """Return what a snapshot's manifest says of its rows."""
        filesystem, root = self.lake.objects.arrow()
        sha256 = hashlib.sha256()
        with filesystem.open_input_stream(f"{root}/{rows}", compression=None) as stream:
            while part := stream.read(_CHUNK):
                sha256.update(part)
        with filesystem.open_input_file(f"{root}/{rows}") as source:
            file = pq.ParquetFile(source)
            labels = (batch.column(0) for batch in file.iter_batches(columns=["label"]))
            positives = sum(int(pc.sum(column).as_py() or 0) for column in labels)
            count = file.metadata.num_rows
        return {"rows": count, "positives": positives, "rows_sha256": sha256.hexdigest()}

    def _delete_unfinished(self, key: str) -> None:
        """Delete the rows of an unfinished snapshot, which no manifest names, if they contain a user."""
        manifest = f"{key.rpartition('/')[0]}/manifest.json"
        counts = self._look(key) if key.endswith(".parquet") else Counter[str]()
        if not counts or manifest in self.lake.objects.list(manifest):
            return
        self.lake.objects.delete(key)
        for user in counts:
            self.traces[user].files["snapshots"] += 1

    def revise_documents(self) -> None:
        """Remove the users from releases' canaries, and their ids from reports."""
        for key in [*self.lake.objects.list("releases/"), *self.lake.objects.list("reports/")]:
            data = self.lake.objects.get(key)
            users = mentioned(data, self.users)
            if not users:
                continue
            if key.endswith("/canaries.json"):
                document = json.loads(data)
                document["canaries"] = [one for one in document["canaries"] if one["user_id"] not in users]
                data = (json.dumps(document, indent=1) + "\n").encode()
            elif key.startswith("reports/"):
                for user in users:
                    data = mentions(user).sub(b"erased", data)
            else:
                for user in users:
                    self.traces[user].skipped.add(f"{key}: mentions the user, and is immutable")
                continue
            self.lake.objects.put(key, data)
            for user in users:
                self.traces[user].documents[key.partition("/")[0]] += 1

    def _holding(self, keys: Collection[str], small: Set[str] = frozenset()) -> Iterator[tuple[str, Counter[str]]]:
        """Yield the files that hold users, in order, with how many rows each has; a few files are read at a time."""
        keys = [key for key in keys if key not in self._clear]
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(keys), _AT_ONCE):
                part = keys[start : start + _AT_ONCE]
                looked = pool.map(lambda one: self._look(one, small=one in small), part)
                yield from ((key, counts) for key, counts in zip(part, looked, strict=True) if counts)

    def _look(self, key: str, *, small: bool = False) -> Counter[str]:
        """Return how many rows of a file are about each user. A damaged file is skipped and named in `skipped`.

        A small file is fetched whole, which takes one request instead of several.
        """
        if key in self._clear:
            return Counter()
        filesystem, root = self.lake.objects.arrow()
        try:
            source = (
                pa.BufferReader(self.lake.objects.get(key)) if small else filesystem.open_input_file(f"{root}/{key}")
            )
            with source:
                counts = users_in(pq.ParquetFile(source), self.users)
        except (FileNotFoundError, ObjectMissing):
            return Counter()
        except (pa.ArrowInvalid, OSError) as error:
            self._skip(key, error)
            return Counter()
        if not counts and not key.startswith((TABLES, SNAPSHOTS)):
            self._clear.add(key)
        return counts

    def _rewrite(self, source: str, target: str) -> int | None:
        """Write a file's rows without those of the users, and return their number; None if the file is damaged."""
        try:
            return write_without(self.lake.objects, source, target, self.users)
        except (pa.ArrowInvalid, OSError) as error:
            self._skip(source, error)
            self._damaged.add(source)
            return None

    def _skip(self, key: str, error: Exception) -> None:
        if outage(error) is not None:
            raise error
        self.skipped.add(f"{key}: cannot be read ({str(error).splitlines()[0][:120]})")


def _revision(lake: Lake, folder: str) -> int:
    try:
        return int(str(lake.get_json(f"{folder}/manifest.json").get("revision", 0)))
    except ObjectMissing:
        return 0
    except ValueError as error:
        raise CorruptData(f"{lake.root}/{folder}/manifest.json: {error}") from None
