"""Three homes for a stream's state of each user, with the same computation, as Spark's workers import them.

Each takes the records of a micro-batch in Kinesis's columns and yields one row per partition or user: how many feature rows
there are, a sum over them that is equal for equal rows, and, where they have to travel on to a writer, the rows.
"""

import marshal
import pickle
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import redis
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle, TimerValues

from ingestion.compute import BatchResult, Rules, compute, parse_records
from ingestion.kinesis_shards import Record
from ingestion.state_store import Change, StateStore
from stillpoint.app.load import load_app
from stillpoint.clock import DAY
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.features.streamed.stream import AppStream
from stillpoint.features.triggers import SearchedCategory
from stillpoint.tombstones import Tombstones

COUNTED = "rows long, digest long"
TRAVELLING = f"{COUNTED}, data binary"
KEPT_MILLISECONDS = 2 * DAY // 1_000
"""How long Spark keeps an idle user's state: an event's greatest age and the longest window, as Redis keeps it too."""


@lru_cache(maxsize=1)
def rules() -> Rules:
    """Build what the computation needs, once a process."""
    encoder = RememberingEncoder(WordLlamaEncoder())
    stream = AppStream(load_app("feature_repo"), encoder=encoder, max_event_age_us=DAY)
    return Rules(stream, encoder, SearchedCategory(encoder), Tombstones(b"benchmark"))


def computed(records: Iterable[Record], states: dict[str, bytes]) -> BatchResult:
    """Do what `ingestion.step` does between reading states and writing."""
    users, refused = parse_records(records, rules().stream.parser)
    known = {user: states.get(user, b"") for user in users}
    return compute(users, refused, known, rules(), now_us=0)


def sums(result: BatchResult) -> tuple[int, int]:
    """Return the number of rows and their sum, which does not depend on their order."""
    rows = [(view, *map(_plain, row)) for view, found in result.rows.items() for row in found]
    return len(rows), sum(zlib.crc32(marshal.dumps(row, 2)) for row in rows)


def in_redis(batches: Iterator[pa.RecordBatch], address: tuple[str, int], number: int) -> Iterator[pa.RecordBatch]:
    """The receiver's way: one read and one write for a partition's users, in pipelines. For `mapInArrow`."""
    records = [Record(*row) for batch in batches for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
    if not records:
        return
    store = StateStore(client(address), "bench")
    states = store.load(sorted({record.partition_key for record in records}), number, instance=store.instance())
    result = computed(records, states)
    age = rules().max_event_age_us
    changes = {
        u: Change(before, after.to_bytes(), after.expires_us(age)) for u, (before, after) in result.states.items()
    }
    store.save(changes, batch=number, epoch=1)
    rows, digest = sums(result)
    yield pa.RecordBatch.from_pydict({"rows": [rows], "digest": [digest]})


@lru_cache(maxsize=1)
def client(address: tuple[str, int]) -> Any:
    """Return this process's connection."""
    return redis.Redis(*address)


def in_group_state(key: tuple[str], frames: Iterator[pd.DataFrame], state: Any) -> Iterator[pd.DataFrame]:
    """For `applyInPandasWithState`: one call per user, the state beside it."""
    if state.hasTimedOut:
        state.remove()
        return
    before = bytes(state.get[0]) if state.exists else b""
    result = computed(_records(frames), {key[0]: before})
    state.update((result.states[key[0]][1].to_bytes(),))
    state.setTimeoutDuration(KEPT_MILLISECONDS)
    yield _travelling(result)


class InValueState(StatefulProcessor):
    """For `transformWithStateInPandas`: one call per user, the state asked for over a socket to Java."""

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._state = handle.getValueState("state", "data binary", ttlDurationMs=KEPT_MILLISECONDS)

    def handleInputRows(  # noqa: N802
        self,
        key: tuple[str],
        rows: Iterator[pd.DataFrame],
        timerValues: TimerValues,  # noqa: N803
    ) -> Iterator[pd.DataFrame]:
        found = self._state.get()
        result = computed(_records(rows), {key[0]: bytes(found[0]) if found else b""})
        self._state.update((result.states[key[0]][1].to_bytes(),))
        yield _travelling(result)


def arrived(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Stand for the writer behind an operator that holds state: unpack the rows and sum them up. For `mapInArrow`."""
    rows = digest = 0
    for batch in batches:
        for data in batch.column("data").to_pylist():
            pickle.loads(data)
        rows += sum(batch.column("rows").to_pylist())
        digest += sum(batch.column("digest").to_pylist())
    yield pa.RecordBatch.from_pydict({"rows": [rows], "digest": [digest]})


def _plain(value: Any) -> Any:
    return value.tobytes() if isinstance(value, np.ndarray) else value


def _records(frames: Iterable[pd.DataFrame]) -> Iterator[Record]:
    for frame in frames:
        for row in frame.itertuples(index=False, name=None):
            yield Record(*row)


def _travelling(result: BatchResult) -> pd.DataFrame:
    rows, digest = sums(result)
    return pd.DataFrame({"rows": [rows], "digest": [digest], "data": [pickle.dumps(result.rows, protocol=5)]})
