"""Finds a served recommendation by its id without scanning the served log.

Each commit of the log lists prefixes of the ids that it adds, which tells the files that may hold an id. Compacted files
are not covered by such lists; they are sorted by id, and their Parquet statistics tell the row groups to read. Of any
other file the ids are read once and their prefixes kept in memory.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillpoint.lake.checkpoint import CheckpointedCommit
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.tables import Lake
from stillpoint.served_rows import ID_LENGTH, SERVED_IDS, names_id

_COLUMN = "recommendation_id"
_THREADS = 16


@dataclass(frozen=True, slots=True)
class _Ranges:
    """First and last id of each row group of a sorted file."""

    bounds: tuple[tuple[str, str], ...]

    def groups(self, recommendation_id: str) -> list[int]:
        return [number for number, (low, high) in enumerate(self.bounds) if low <= recommendation_id <= high]


@dataclass(frozen=True, slots=True)
class _Beginnings:
    """The sorted id prefixes of each row group."""

    groups_of: tuple[npt.NDArray[np.bytes_], ...]

    def groups(self, recommendation_id: str) -> list[int]:
        wanted = np.bytes_(recommendation_id[:ID_LENGTH].encode())
        found = []
        for number, held in enumerate(self.groups_of):
            place = int(np.searchsorted(held, wanted))
            if place < len(held) and held[place] == wanted:
                found.append(number)
        return found


class ServedLookup:
    """Looks recommendations up in one lake. Thread-safe."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._known: Mapping[str, _Ranges | _Beginnings] = {}
        self._lock = threading.Lock()

    def find(self, recommendation_id: str) -> dict[str, Any] | None:
        """Return the row of a recommendation, or None if the log does not hold it; of several rows the one served last."""
        named, silent = self._files(recommendation_id)
        with self._lock:
            known = self._known
        unknown = [file.path for file in silent if file.path not in known]
        if unknown:
            with ThreadPoolExecutor(_THREADS) as pool:
                read = dict(zip(unknown, pool.map(self._look, unknown), strict=True))
            with self._lock:  # keep the indexes of files that exist now; compacted ones are dropped
                current = {file.path for file in silent}
                self._known = known = {
                    path: index for path, index in {**self._known, **known, **read}.items() if path in current
                }
        rows: list[dict[str, Any]] = []
        for path, groups in [
            *((file.path, None) for file in named),
            *((file.path, found) for file in silent if (found := known[file.path].groups(recommendation_id))),
        ]:
            rows += self._rows(path, groups, recommendation_id)
        return max(rows, key=lambda row: row["served_at"]) if rows else None

    def _files(self, recommendation_id: str) -> tuple[list[CommittedFile], list[CommittedFile]]:
        """Return the files whose commits list the id's prefix, and the files whose commits list no prefixes."""
        commits = self._lake.commits()
        gone = {path for commit in commits for path in commit.supersedes}
        named: list[CommittedFile] = []
        silent: list[CommittedFile] = []
        for commit in commits:
            told = None if isinstance(commit, CheckpointedCommit) else commit.properties.get(SERVED_IDS)
            if isinstance(told, str) and not names_id(told, recommendation_id):
                continue
            own = [file for file in commit.files if file.dataset == "served" and file.path not in gone and file.rows]
            (named if isinstance(told, str) else silent).extend(own)
        return named, silent

    def _look(self, path: str) -> _Ranges | _Beginnings:
        """Return a file's index of ids; an erasure may have deleted the file since it was listed."""
        try:
            return self._index(path)
        except FileNotFoundError:
            return _Ranges(())

    def _index(self, path: str) -> _Ranges | _Beginnings:
        with self._open(path) as file:
            metadata = file.metadata
            column = next(
                number for number in range(metadata.num_columns) if metadata.schema.column(number).path == _COLUMN
            )
            statistics = [metadata.row_group(number).column(column).statistics for number in range(file.num_row_groups)]
            bounds = [(one.min, one.max) for one in statistics if one is not None and one.has_min_max]
            if 1 < len(bounds) == len(statistics) and all(before[1] <= after[0] for before, after in pairwise(bounds)):
                return _Ranges(tuple(bounds))
            return _Beginnings(
                tuple(
                    _beginnings(file.read_row_group(number, columns=[_COLUMN])[_COLUMN])
                    for number in range(file.num_row_groups)
                )
            )

    def _rows(self, path: str, groups: Sequence[int] | None, recommendation_id: str) -> list[dict[str, Any]]:
        try:
            with self._open(path) as file:
                table = file.read() if groups is None else file.read_row_groups(list(groups))
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = table.filter(pc.equal(table[_COLUMN], recommendation_id)).to_pylist()
        return found

    def _open(self, path: str) -> pq.ParquetFile:
        filesystem, root = self._lake.objects.arrow()
        return pq.ParquetFile(f"{root}/{path}", filesystem=filesystem)


def _beginnings(ids: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    shortened = pc.utf8_slice_codeunits(ids, 0, ID_LENGTH).to_pylist()
    return np.sort(np.array([one.encode() for one in shortened], dtype=np.bytes_))
