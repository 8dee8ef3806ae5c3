"""A folder on disk for batches that wait while the lake is unavailable.

One folder per writer, locked by its process, with one Arrow file per batch. The next process takes over the folders of
processes that have ended. Beyond a size limit no more batches are kept.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

log = logging.getLogger(__name__)

LIMIT_BYTES = 256 * 1024 * 1024
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class SpooledBatch:
    """One batch on disk: its writer, its sequence number and its file."""

    writer: str
    sequence: int
    path: Path

    def read(self) -> pa.Table:
        """Return the batch.

        Raises:
            pa.ArrowInvalid: the file is damaged.
        """
        with pa.OSFile(str(self.path)) as source:
            return pa.ipc.open_file(source).read_all()


class Spool:
    """One process's folder, and the folders that it took over. Not thread-safe."""

    def __init__(self, root: Path, writer: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._root = root
        self._own = root / writer
        self._limit = limit_bytes
        self._locks: dict[Path, int] = {}

    def keep(self, sequence: int, table: pa.Table) -> bool:
        """Write a batch atomically. Return False if the disk refuses it or the size limit is reached."""
        if sum(path.stat().st_size for path in self._root.glob("*/*.arrow")) + table.nbytes > self._limit:
            return False
        path = self._own / f"{sequence:08d}.arrow"
        unfinished = path.with_suffix(".unfinished")
        try:
            if self._own not in self._locks:
                self._own.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._lock(self._own)
            with pa.OSFile(str(unfinished), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            unfinished.rename(path)
        except OSError as error:
            log.error("the disk does not take what the lake does not: %s", error)
            unfinished.unlink(missing_ok=True)
            return False
        return True

    def adopt(self) -> None:
        """Take over the folders of processes that have ended."""
        for folder in self._root.glob("*/"):
            if folder not in self._locks:
                self._lock(folder)

    def waiting(self) -> Iterator[SpooledBatch]:
        """Yield the batches in all of this process's folders, each writer's oldest first."""
        for folder in sorted(self._locks):
            for path in sorted(folder.glob("*.arrow")):
                yield SpooledBatch(folder.name, int(path.stem), path)

    def done(self, batch: SpooledBatch) -> None:
        """Delete a batch that has reached the lake."""
        batch.path.unlink(missing_ok=True)

    def set_aside(self, batch: SpooledBatch) -> None:
        """Move a damaged file out of the way, without deleting it."""
        batch.path.rename(batch.path.with_suffix(".unreadable"))

    def close(self) -> None:
        """Unlock the folders, and remove the empty ones."""
        for folder, descriptor in self._locks.items():
            if not any(path.name != _LOCK for path in folder.iterdir()):
                (folder / _LOCK).unlink(missing_ok=True)
                folder.rmdir()
            os.close(descriptor)
        self._locks.clear()

    def _lock(self, folder: Path) -> None:
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            return  # its owner removed it at this moment
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return
        self._locks[folder] = descriptor
        for path in folder.glob("*.unfinished"):
            path.unlink()  # half-written by a killed process: it is unreadable, and an erasure could not remove users from it
