"""The driver's half of a micro-batch: makes it take effect exactly once, in the right order.

Executors write online stores, lake files and states (`step`); then the driver commits one manifest; only then are the
prediction requests sent. After a kill before the commit, the batch is repeated from the states before it. After a kill behind the
commit, the replay finds the commit and only sends the requests again; their ids let receivers drop the copies.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ingestion.batch import Batch, PartReport, rules_of
from ingestion.joining.joins import ViewJoins
from ingestion.keyed.exchange import EXCHANGED
from ingestion.keyed.step import map_keys
from ingestion.state_store import StatesLost, StateStore, instance_of
from ingestion.step import map_part, map_part_by_key
from ingestion.view_states import ViewStates
from stillpoint.clock import Clock
from stillpoint.lake.commits import ISOLATED, Commit
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease
from stillpoint.releases.streamed_views import STREAMED_VIEWS_KEY, StreamedViews, event_fields
from stillpoint.releases.write_targets import ACKNOWLEDGED_KEY, Acknowledgement, read_acknowledged, read_control
from stillpoint.settings import Settings
from stillpoint.tombstones import Tombstones, acknowledge_erasures, erasure_key, read_tombstones

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

Send = Callable[[Sequence[str]], None]
"""Puts prediction requests on the queue, all of them, or raises."""


@dataclass(slots=True)
class BatchReport:
    """What a micro-batch did. `seconds` by stage; for stages on executors, those of the slowest part. `freshness` counts records by
    hundredths of a second from arrival in Kinesis until their features were readable online."""

    number: int
    is_replay: bool
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    freshness: Counter[int] = field(default_factory=Counter)
    newest_event_us: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    newest_arrival_us: int = 0
    dropped_fields: int = 0
    differing: int = 0
    isolated: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def records(self) -> int:
        return sum(self.verdicts.values())


class BatchProcessor:
    """The driver's half. One instance per run of a query; `process` is Spark's `foreachBatch` function."""

    def __init__(
        self,
        settings: Settings,
        *,
        query: str,
        lake: Lake,
        lease: Lease,
        states: StateStore,
        send: Send,
        clock: Clock,
        report: Callable[[BatchReport], None],
        newest: int | None = None,
        views: ViewStates,
        joins: ViewJoins,
        executors_app: str | None = None,
    ) -> None:
        """`newest` is the number of the last batch that this query has committed; None for a new query. `views` are those
        that every state knows, `joins` lets the app's others join them. `executors_app` is where executors find the app, if
        elsewhere than the settings say."""
        self._settings = settings
        self._on_executors = settings.model_copy(update={"app": executors_app or settings.app})
        self._query = query
        self._lake = lake
        self._lease = lease
        self._states = states
        self._send = send
        self._clock = clock
        self._report = report
        self._newest = newest
        self._views = views
        self._announced: ViewStates | None = None
        self._joins = joins
        self._acknowledged = -1
        self._buried = 0
        self._running = threading.Lock()
        self._readers = ThreadPoolExecutor(3, "orders")

    @property
    def writer(self) -> str:
        """The name under which this query commits."""
        return f"stream-{self._query}"

    def process(self, frame: "DataFrame", number: int) -> None:
        """Let one micro-batch take effect. Spark may call it again for the same number, with the same records in other partitions.

        Lease, write targets and erasures are read anew for each batch, concurrently. What is acknowledged after a batch was therefore in
        force for the whole batch, and nobody waits for an acknowledgement longer than one batch takes.
        """
        with self._running:
            held = self._readers.submit(self._lease.check)
            ordered = self._readers.submit(read_control, self._lake.objects)
            erased = self._readers.submit(self._tombstones)
            held.result()
            instance = self._instance()
            self._hand_over()
            control, tombstones = ordered.result(), erased.result()
            batch = Batch(
                settings=self._on_executors,
                query=self._query,
                number=number,
                epoch=self._lease.epoch,
                control=control,
                is_replay=self._newest is not None and number <= self._newest,
                instance=instance,
                views=self._views,
                erased=dict(tombstones.until),
            )
            started = time.perf_counter()
            parts = self._run_parts(frame, batch)
            report = self._sum(batch, parts)
            report.seconds["parts"] = time.perf_counter() - started
            if not batch.is_replay:
                self._commit(batch, parts, report)
            started = time.perf_counter()
            self._send([request for part in parts for request in part.requests])
            report.seconds["send"] = time.perf_counter() - started
            self._acknowledge(control.generation, number)
            self._acknowledge_erasures(tombstones)
        self._report(report)

    def _instance(self) -> str:
        """Return what names the run of the shards that hold the states of all committed batches.

        Raises:
            StatesLost: they do not hold them.
        """
        found = self._states.shards()
        marked = self._states.marked()
        if self._newest is not None and (marked is None or marked < self._newest):
            raise StatesLost(
                f"Redis knows the stream's memory up to batch {marked}, the lake is at {self._newest}; "
                "it is rebuilt from the lake"
            )
        dropped = self._states.dropped_of(found) if self._newest is not None else []
        if dropped:
            named = ", ".join(f"{shard.name} ({shard.evicted:,})" for shard in dropped)
            raise StatesLost(f"Redis has dropped keys by itself: {named}; the stream's memory is rebuilt from the lake")
        return instance_of(found)

    def acknowledge_if_idle(self) -> bool:
        """Acknowledge new write targets and erasures while no micro-batch runs; the next one will apply them.

        Return False if a micro-batch runs: then the acknowledgement follows after it.
        """
        if not self._running.acquire(blocking=False):
            return False
        try:
            self._hand_over()
            self._acknowledge(read_control(self._lake.objects).generation, None)
            self._acknowledge_erasures(self._tombstones())
        finally:
            self._running.release()
        return True

    def _hand_over(self) -> None:
        """Let views that have joined be advanced from the next batch on: their rows, then what the states hold, then the word."""
        if self._joins.ready:
            self._lease.check()
        views = self._joins.step(self._views, self._newest)
        if views != self._views:
            self._states.note_views(views)
            self._views = views
        if views != self._announced:
            self._announce_views()
            self._announced = views

    def end(self) -> None:
        """End what runs beside the batches."""
        self._joins.stop()

    def _announce_views(self) -> None:
        """Record in the lake which views the stream advances, and after which batch it began to."""
        views = {section.partition("@")[0]: section for section in sorted(self._views.active)}
        answer = StreamedViews(
            writer=self.writer,
            views=views,
            events=event_fields(rules_of(self._settings).stream.app.events),
            batch=self._newest,
            at=self._clock(),
        )
        self._lake.objects.put(STREAMED_VIEWS_KEY, answer.model_dump_json(indent=1).encode())

    def _run_parts(self, frame: "DataFrame", batch: Batch) -> list[PartReport]:
        """Compute the users' parts and then, if a view has keys that belong to no single user, those keys.

        The second shuffle begins when every user's part has ended, so no key's rows rest on half of the verdicts.
        """
        partitions = self._settings.shuffle_partitions
        rules = rules_of(self._settings, batch.views.active)
        again = bool(rules.stream.engine.of_others) and not batch.is_replay
        by_user: Any = partial(map_part_by_key if again else map_part, batch=batch)
        by_key: Any = partial(map_keys, batch=batch)
        spread = frame.repartition(partitions, "partition_key")
        if again:
            found = spread.mapInArrow(by_user, EXCHANGED).repartition(partitions, "place")
            reports = found.mapInArrow(by_key, "report string")
        else:
            reports = spread.mapInArrow(by_user, "report string")
        return [PartReport.from_json(row.report) for row in reports.collect()]

    def _commit(self, batch: Batch, parts: Sequence[PartReport], report: BatchReport) -> None:
        started = time.perf_counter()
        self._lease.check()
        self._states.require(batch.instance)
        self._states.mark(batch.number, after=self._newest)
        self._states.require(batch.instance)
        self._lake.commit(
            Commit(
                writer=self.writer,
                sequence=batch.number,
                epoch=batch.epoch,
                at=self._clock(),
                files=tuple(file for part in parts for file in part.files),
                properties={
                    "control_generation": batch.control.generation,
                    "newest_arrival_us": report.newest_arrival_us,
                    **({ISOLATED: report.isolated} if report.isolated else {}),
                    **{f"verdict_{name}": count for name, count in sorted(report.verdicts.items())},
                },
            )
        )
        self._newest = batch.number
        self._joins.note([file for part in parts for file in part.files])
        report.seconds["commit"] = time.perf_counter() - started

    def _acknowledge(self, generation: int, number: int | None) -> None:
        if generation <= self._acknowledged:
            return
        known = read_acknowledged(self._lake.objects)
        if known is not None and known.generation >= generation and known.writer == self.writer:
            self._acknowledged = known.generation
            return
        self._lease.check()
        answer = Acknowledgement(generation=generation, writer=self.writer, batch=number, at=self._clock())
        self._lake.objects.put(ACKNOWLEDGED_KEY, answer.model_dump_json(indent=1).encode())
        self._acknowledged = generation

    def _tombstones(self) -> Tombstones:
        return read_tombstones(self._lake.objects, erasure_key(self._settings))

    def _acknowledge_erasures(self, tombstones: Tombstones) -> None:
        """Acknowledge that no data of the users erased so far is being written any more."""
        if tombstones.count > self._buried:
            self._lease.check()
            acknowledge_erasures(self._lake.objects, tombstones.count)
            self._buried = tombstones.count

    def _sum(self, batch: Batch, parts: Sequence[PartReport]) -> BatchReport:
        report = BatchReport(number=batch.number, is_replay=batch.is_replay)
        for part in parts:
            report.verdicts.update(part.verdicts)
            report.reasons.update(part.reasons)
            report.rows.update(part.rows)
            report.freshness.update({int(hundredths): count for hundredths, count in part.freshness.items()})
            for place, newest in part.newest_event_us.items():
                report.newest_event_us[place] = max(report.newest_event_us.get(place, newest), newest)
            report.requests += len(part.requests)
            report.newest_arrival_us = max(report.newest_arrival_us, part.newest_arrival_us)
            report.dropped_fields += part.dropped_fields
            report.differing += part.differing
            report.isolated += part.isolated
            for stage, seconds in part.seconds.items():
                report.seconds[stage] = max(report.seconds.get(stage, 0.0), seconds)
        return report
