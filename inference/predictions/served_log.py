"""The served log: the features and release behind each prediction, written to the lake by a background thread.

Predictions wait in a bounded queue; a thread turns them into rows and writes them in batches, one commit per batch.
Batches that the lake does not accept are kept on disk (`spool.py`), across restarts too. Dropped rows are counted.
"""

import logging
import queue
import threading
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from inference.predictions.predict import Prediction
from inference.predictions.served_tables import served_table, without_erased
from inference.predictions.spool import Spool, SpooledBatch
from stillpoint.clock import Clock
from stillpoint.errors import StillpointError
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date
from stillpoint.lake.tables import Lake
from stillpoint.served_rows import SERVED_IDS, SERVED_MESSAGES, named_ids
from stillpoint.tombstones import read_tombstones

log = logging.getLogger(__name__)

FLUSH_SECONDS = 2.0
BATCH = 2_000
WAITING = 5_000
BREATH_SECONDS = 0.004
"""Pause after each conversion, so that a batch delays many requests a little and none of them much."""


class ServedLog:
    """One process's served log. `add` never blocks. `lost` counts rows that reached neither the lake nor the disk."""

    def __init__(self, lake: Lake, *, clock: Clock, erasure_key: bytes, spool: Path | None = None) -> None:
        """`spool` is the folder for batches that the lake does not accept; without one they are lost once memory is full."""
        self._lake = lake
        self._clock = clock
        self._erasure_key = erasure_key
        self._queue: queue.Queue[Prediction] = queue.Queue(WAITING)
        self._stop = threading.Event()
        self._writer = f"served-{uuid.uuid4().hex[:12]}"
        self._sequence = 0
        self._held: list[tuple[int, pa.Table]] = []
        self._spool = None if spool is None else Spool(spool, self._writer)
        self.lost = 0
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="served-log", daemon=True)
        self._thread.start()

    def add(self, prediction: Prediction) -> None:
        """Queue a prediction for the log."""
        try:
            self._queue.put_nowait(prediction)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write everything that is queued, to the lake or else to disk, and stop the thread."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()
        if self._held:
            self.lost += sum(table.num_rows for _, table in self._held)
            log.error("%d records of the served log are lost: the lake takes nothing, and there is no disk", self.lost)
        if self._spool is not None:
            self._spool.close()

    def _flush(self) -> None:
        is_there = self._write_waiting()
        while True:
            predictions: list[Prediction] = []
            while len(predictions) < BATCH and not self._queue.empty():
                predictions.append(self._queue.get_nowait())
            if not predictions:
                return
            table = self._table(predictions)
            sequence, self._sequence = self._sequence, self._sequence + 1
            is_there = is_there and self._write(self._writer, sequence, table)
            if not is_there:
                self._keep(sequence, table)
            if len(predictions) < BATCH:
                return  # newer predictions wait for the next flush: under steady load this would never end

    def _write_waiting(self) -> bool:
        """Write the batches that failed before, oldest first. Return whether the lake accepted all of them."""
        for sequence, table in list(self._held):
            if not self._write(self._writer, sequence, table, is_replay=True):
                return False
            self._held.pop(0)
        if self._spool is None:
            return True
        self._spool.adopt()
        for batch in list(self._spool.waiting()):
            table = self._read_spooled(batch)
            if table is None:
                continue
            if not self._write(batch.writer, batch.sequence, table, is_replay=True):
                return False
            self._spool.done(batch)
        return True

    def _read_spooled(self, batch: SpooledBatch) -> pa.Table | None:
        assert self._spool is not None
        try:
            return batch.read()
        except (pa.ArrowInvalid, OSError) as error:
            log.error("%s cannot be read and is set aside: %s", batch.path, error)
            self._spool.set_aside(batch)
            return None

    def _keep(self, sequence: int, table: pa.Table) -> None:
        if self._spool is not None and self._spool.keep(sequence, table):
            return
        if sum(held.num_rows for _, held in self._held) + table.num_rows <= WAITING:
            self._held.append((sequence, table))
        else:
            self.lost += table.num_rows

    def _table(self, predictions: Sequence[Prediction]) -> pa.Table:
        return served_table(predictions, refused=self._refused, between=self._breathe)

    def _breathe(self) -> None:
        self._stop.wait(BREATH_SECONDS)

    def _refused(self, error: StillpointError) -> None:
        self.lost += 1
        log.error("a prediction cannot be logged: %s", error)

    def _write(self, writer: str, sequence: int, table: pa.Table, *, is_replay: bool = False) -> bool:
        """Write a batch once, without the rows of the erased."""
        try:
            if is_replay and self._lake.committed(writer, sequence):
                return True  # the earlier attempt succeeded, and only its answer was lost
            commit_served(self._lake, writer, sequence, table, at=self._clock(), erasure_key=self._erasure_key)
        except Exception as error:  # noqa: BLE001  whatever the lake's trouble, answering goes on; the batch is tried again
            self.failures += 1
            log.warning("the served log cannot be written, trying again: %s", error)
            return False
        return True


def commit_served(
    lake: Lake,
    writer: str,
    sequence: int,
    table: pa.Table,
    *,
    at: datetime,
    erasure_key: bytes,
    messages: Sequence[str] = (),
) -> None:
    """Commit rows once, without those of erased users. `messages` are the ids of what brought them."""
    table = without_erased(table, read_tombstones(lake.objects, erasure_key))
    if table.num_rows == 0:
        return
    name = f"{writer}-{sequence:08d}"
    files = tuple(lake.write("served", day, name, part) for day, part in by_date(table, "served_at"))
    properties: dict[str, str | int | float | None] = {SERVED_IDS: named_ids(table["recommendation_id"].to_pylist())}
    if messages:
        properties[SERVED_MESSAGES] = " ".join(messages)
    lake.commit(Commit(writer=writer, sequence=sequence, at=at, files=files, properties=properties))
