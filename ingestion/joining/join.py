"""Lets views join while the stream runs: their past is computed beside it, and handed over between two micro-batches.

All of the lake's events up to a barrier, the batch at which the join began, are taken in day by day; then those of the
batches committed since, again and again, until few are left. The driver lets the last ones be taken in between two
batches, commits the rows, and advances the views from the next batch on. Nothing that a join wrote counts before, so one
that is broken off anywhere is begun anew under another id.
"""

import logging
import threading
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.batch_writes import write_rows
from ingestion.joining.memory import RedisJoinMemory
from ingestion.joining.past import advance_past
from ingestion.keyed.past import rows_from_the_lake
from ingestion.state_store import StatesLost, StateStore
from stillpoint.app.durations import micros
from stillpoint.app.events import Arrival
from stillpoint.clock import Clock, to_micros
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.tables import Lake
from stillpoint.tombstones import Tombstones

log = logging.getLogger(__name__)

AT_ONCE = 500_000
"""Events in memory at a time: a day with more is taken in by groups of users."""
LONGEST = timedelta(days=2)
"""Within this a join must be done; so long its memory is kept."""
FEW = 20_000
"""So many events of batches not yet taken in are left to the driver, between two batches."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What a finished join leaves: its id, and the sections (view@digest) that the stream advances from now on."""

    join: str
    sections: frozenset[str]


class _Group(NamedTuple):
    """One of several groups into which users fall by a checksum of their ids."""

    number: int
    groups: int

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of the group's users."""
        if self.groups == 1:
            return batch
        users = batch.column("user_id")
        mine = [one for one in pc.unique(users).to_pylist() if zlib.crc32(one.encode()) % self.groups == self.number]
        return batch.filter(pc.is_in(users, pa.array(mine, pa.string())))


class ViewJoin:
    """One attempt to let views join. `stream` holds those views alone.

    `compute` runs beside the stream, in a thread; `note` and `finish` are called by the driver, between batches.
    """

    def __init__(
        self,
        lake: Lake,
        states: StateStore,
        stream: AppStream,
        *,
        batch: int,
        epoch: int,
        tombstones: Tombstones,
        clock: Clock,
        write_online: Callable[[dict[str, list[Row]]], None],
        at_once: int = AT_ONCE,
    ) -> None:
        """Begin at the barrier: the lake's events as of now are those up to `batch`. No batch may be running."""
        self.id = uuid.uuid4().hex[:12]
        self._lake = lake
        self._states = states
        self._instance = states.instance()
        self._stream = stream
        self._epoch = epoch
        self._tombstones = tombstones
        self._clock = clock
        self._write_online = write_online
        self._at_once = at_once
        self._deadline = clock() + LONGEST
        self._memory = RedisJoinMemory(
            states,
            self.id,
            batch=batch,
            epoch=epoch,
            keep_us=stream.max_event_age_us + micros(stream.reach) + 1,
            until_us=to_micros(self._deadline),
        )
        runners = (*stream.engine.of_users, *stream.engine.of_others.values())
        self._types = sorted({event.type_name for one in runners for event in one.events})
        self._history = lake.files("events")
        self._waiting: list[CommittedFile] = []
        self._lock = threading.Lock()
        self._written: list[CommittedFile] = []
        self._stopped = threading.Event()
        self.events = 0
        self.ready = threading.Event()

    @property
    def sections(self) -> frozenset[str]:
        """The sections that join."""
        return self._stream.sections

    def stop(self) -> None:
        """Break the join off."""
        self._stopped.set()

    def note(self, files: Iterable[CommittedFile]) -> None:
        """Take note of the files of a batch that was committed since the barrier."""
        with self._lock:
            self._waiting += [file for file in files if file.dataset == "events"]

    def compute(self) -> None:
        """Take in the lake up to the barrier and most of what came since, then be `ready`."""
        days: dict[date, list[CommittedFile]] = defaultdict(list)
        for file in self._history:
            days[file.date].append(file)
        for day in sorted(days):
            start = to_micros(datetime.combine(day, time(), UTC))
            for events in self._of_day(days[day]):
                if self._stopped.is_set():
                    return
                self._take_in(events, before_us=start)
        while not self._stopped.is_set() and self._take_waiting(at_least=FEW):
            pass
        if not self._stopped.is_set():
            self.ready.set()

    def finish(self) -> Handover:
        """Take in what is left, and commit the rows. Called between two batches; the next one advances the views.

        Raises:
            StatesLost: Redis restarted or failed over since the join began, or it took too long, so what it keeps may be lost.
        """
        self._take_waiting(at_least=0)
        if self._clock() > self._deadline:
            raise StatesLost(f"views took longer than {LONGEST.days} days to join; they begin anew")
        if self._states.instance() != self._instance:
            raise StatesLost("Redis restarted or failed over while views joined; they begin anew")
        self._lake.commit(
            Commit(
                writer=f"join-{self.id}",
                sequence=0,
                epoch=self._epoch,
                at=self._clock(),
                files=tuple(self._written),
                properties={"sections": ",".join(sorted(self.sections)), "events": self.events},
            )
        )
        return Handover(self.id, self.sections)

    def _take_waiting(self, *, at_least: int) -> bool:
        """Take in the batches that wait, if they hold more events than that. Return whether there were as many."""
        with self._lock:
            files, count = self._waiting, sum(file.rows for file in self._waiting)
            if count <= at_least and at_least:
                return False
            self._waiting = []
        if files:
            self._take_in(self._read(files))
        return bool(files)

    def _of_day(self, files: Sequence[CommittedFile]) -> Iterator[list[Arrival]]:
        """Yield a day's events, each user's at once."""
        groups = -(-sum(file.rows for file in files) // self._at_once)
        for group in range(groups):
            yield self._read(files, _Group(group, groups))

    def _read(self, files: Sequence[CommittedFile], group: _Group | None = None) -> list[Arrival]:
        rows = (pc.field("verdict") == Verdict.ON_TIME.value) & pc.field("type").isin(self._types)
        batches = self._lake.open("events", files).to_batches(filter=rows)
        parts = [batch if group is None else group.of(batch) for batch in batches]
        if not parts:
            return []
        found = self._stream.recorded.on_time(pa.Table.from_batches(parts))
        return [one for one in found if not self._tombstones.covers(one.event.user_id, one.event_us)]

    def _take_in(self, events: Sequence[Arrival], *, before_us: int | None = None) -> None:
        rows = advance_past(self._stream.engine, self._memory, events, older=self._older, before_us=before_us)
        tables = self._stream.tables(rows)
        self._written += write_rows(self._lake, f"join-{self.id}-{uuid.uuid4().hex[:8]}", tables)
        self._write_online(rows)
        self.events += len(events)

    def _older(self, view: str, key: Key, span: tuple[int, int]) -> list[Row]:
        return rows_from_the_lake(self._lake, self._stream, view, key, [], span)
