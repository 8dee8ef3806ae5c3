"""How does what each prediction used reach the lake, off the request's path?

Records wait in a bounded queue; a thread writes them in batches, each with a commit of its own. A graceful end writes what
waits. When the lake is slow and the queue is full, further records are counted as lost rather than delay an answer.
"""

import hashlib
import queue
import threading
import uuid
from typing import Any

import pyarrow as pa

from inference.predict import Prediction
from stillpoint.clock import Clock, to_micros
from stillpoint.lake import Commit, Lake, by_date
from stillpoint.served import SERVED_COLUMNS
from stillpoint.tombstones import read_tombstones

FLUSH_SECONDS = 2.0
BATCH = 2_000
WAITING = 50_000


def arm(user_id: str, seed: int) -> str:
    """Return the user's experiment arm, `a` or `b`, by a seeded hash: stable, and half of the users each."""
    return "ab"[hashlib.sha256(f"{seed}\x00{user_id}".encode()).digest()[0] & 1]


def served_row(prediction: Prediction, seed: int) -> dict[str, Any]:
    """Return a prediction as a row of `served/`."""
    return {
        "request_id": prediction.ask.request_id,
        "recommendation_id": prediction.recommendation_id,
        "served_at": prediction.at,
        "release": prediction.release,
        "generation": prediction.generation,
        "arm": arm(prediction.ask.user_id, seed),
        "user_id": prediction.ask.user_id,
        "kind": str(prediction.ask.kind),
        "source": str(prediction.source),
        "trigger": None if prediction.ask.trigger is None else str(prediction.ask.trigger),
        "items": [item.content_id for item in prediction.items],
        "candidates": list(prediction.ranking.candidates),
        "scores": prediction.ranking.scores,
        "views": list(prediction.person.views),
    }


class ServedLog:
    """One process's served log. `add` never waits."""

    def __init__(self, lake: Lake, *, clock: Clock, seed: int, erasure_key: bytes) -> None:
        self._lake = lake
        self._clock = clock
        self._seed = seed
        self._erasure_key = erasure_key
        self._queue: queue.Queue[Prediction] = queue.Queue(WAITING)
        self._stop = threading.Event()
        self._writer = f"served-{uuid.uuid4().hex[:12]}"
        self._sequence = 0
        self.lost = 0
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="served-log", daemon=True)
        self._thread.start()

    def add(self, prediction: Prediction) -> None:
        """Take a prediction's record."""
        try:
            self._queue.put_nowait(prediction)
        except queue.Full:
            self.lost += 1

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        waiting: list[Prediction] = []
        while True:
            while len(waiting) < BATCH:
                try:
                    waiting.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            if not waiting:
                return
            if not self._written(waiting):
                if self._stop.is_set():
                    self.lost += len(waiting)
                    return
                self._stop.wait(FLUSH_SECONDS)
                continue
            waiting = []

    def _written(self, predictions: list[Prediction]) -> bool:
        name = f"{self._writer}-{self._sequence:08d}"
        try:
            tombstones = read_tombstones(self._lake.objects, self._erasure_key)
            rows = [
                served_row(one, self._seed)
                for one in predictions
                if not tombstones.covers(one.ask.user_id, to_micros(one.at))
            ]
            if not rows:
                return True
            table = pa.Table.from_pylist(rows, schema=SERVED_COLUMNS)
            files = tuple(self._lake.write("served", day, name, part) for day, part in by_date(table, "served_at"))
            self._lake.commit(Commit(writer=self._writer, sequence=self._sequence, at=self._clock(), files=files))
        except Exception:  # noqa: BLE001  whatever the lake's trouble, answering goes on and the batch is tried again
            self.failures += 1
            return False
        self._sequence += 1
        return True
