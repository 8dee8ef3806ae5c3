"""The executor's half of a micro-batch: loads states, computes, and writes.

It writes first every colour online, then the lake's files, last the states, and returns a report: files to commit, requests to send,
counts. Nothing counts before the driver commits, and each write can be repeated, so a part that fails anywhere is repeated as a whole.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pyarrow as pa

from ingestion.batch import Batch, PartReport, open_clients
from ingestion.batch_writes import Written, write_online, write_records, write_rows
from ingestion.compute import BatchResult, compute, parse_records
from ingestion.joining.memory import unpack_section
from ingestion.keyed.exchange import exchanged_rows
from ingestion.kinesis_shards import Record, shard_of
from ingestion.state_store import Change
from stillpoint.app.events import Arrival
from stillpoint.clock import SECOND, Clock, system_clock, to_micros
from stillpoint.events.types import EventType, Verdict
from stillpoint.features.streamed.definition import Key
from stillpoint.finished import add_finished
from stillpoint.messages import PredictionRequest, request_id


class Part(NamedTuple):
    """What one part of a micro-batch did, and the events whose rows are computed where all events of a key come together."""

    report: PartReport
    keyed: dict[str, dict[Key, list[Arrival]]]


def run_part(records: Iterable[Record], batch: Batch, *, clock: Clock = system_clock) -> Part:
    """Process one part of a micro-batch with all its effects: online rows, lake files, states."""
    clients = open_clients(batch.settings, batch.query, batch.control, batch.views.active)
    report = PartReport()
    started = time.perf_counter()
    listed = list(records)
    users, refused = parse_records(listed, clients.rules.stream.parser)
    fields = {name: section for name, section in batch.views.fields().items() if section in batch.views.active}
    stream = clients.rules.stream

    def take_in(state: bytes, found: dict[str, bytes]) -> bytes:
        return stream.with_sections(state, {fields[name]: unpack_section(data) for name, data in found.items()})

    states = clients.states.load(
        list(users), batch.number, instance=batch.instance, joined=list(fields), take_in=take_in
    )
    started = _lap(report, "state_read", started)
    now = clock()
    tombstones = replace(clients.rules.tombstones, until=batch.erased)
    rules = replace(clients.rules, tombstones=tombstones)
    result = compute(users, refused, states, rules, now_us=to_micros(now))
    started = _lap(report, "compute", started)
    _count(report, result)
    report.newest_arrival_us = max((record.arrived_us for record in listed), default=0)
    report.requests = [_request(event, kind, now) for event, kind in result.requests]
    if batch.is_replay:
        return Part(report, {})
    tables = clients.rules.stream.tables(result.rows)
    _count_online(report, write_online(clients.writers, batch.control, tables))
    add_finished(clients.serving, _completions(result))
    readable_us = to_micros(clock())
    report.freshness = dict(Counter(str(max(0, readable_us - r.arrived_us) * 100 // SECOND) for r in listed))
    started = _lap(report, "online", started)
    name = batch.part_name()
    report.files = [
        *write_records(clients.lake, clients.rules.stream.columns, name, result),
        *write_rows(clients.lake, name, tables),
    ]
    started = _lap(report, "lake", started)
    changes = {
        user: Change(before, state.to_bytes(), clients.rules.stream.expires_us(state))
        for user, (before, state) in result.states.items()
    }
    taken_in = (*fields, *batch.views.stale)
    clients.states.save(changes, batch=batch.number, epoch=batch.epoch, taken_in=taken_in)
    _lap(report, "state_write", started)
    return Part(report, result.keyed)


def map_part(batches: Iterator[pa.RecordBatch], batch: Batch) -> Iterator[pa.RecordBatch]:
    """Process one Spark partition and yield its report as one row of JSON; for `mapInArrow`."""
    for part in _parts(batches, batch):
        yield pa.RecordBatch.from_pydict({"report": [part.report.to_json()]})


def map_part_by_key(batches: Iterator[pa.RecordBatch], batch: Batch) -> Iterator[pa.RecordBatch]:
    """Do what `map_part` does, and yield also the events of each key, for the second shuffle."""
    for part in _parts(batches, batch):
        yield exchanged_rows(part.report.to_json(), part.keyed)


def _parts(batches: Iterator[pa.RecordBatch], batch: Batch) -> Iterator[Part]:
    columns = [[], [], [], [], []]  # type: list[list[Any]]
    for part in batches:
        for column, array in zip(columns, part.columns, strict=True):
            column.extend(array.to_pylist())
    if columns[0]:
        rows = zip(*columns, strict=True)
        records = (Record(shard or shard_of(sequence), sequence, *more) for shard, sequence, *more in rows)
        yield run_part(records, batch)


def _lap(report: PartReport, stage: str, started: float) -> float:
    now = time.perf_counter()
    report.seconds[stage] = now - started
    return now


def _count(report: PartReport, result: BatchResult) -> None:
    report.verdicts = {str(verdict): count for verdict, count in result.verdicts.items() if count}
    aside = [*result.quarantined, *result.isolated]
    report.reasons = dict(Counter(item.field or "record" for item in aside))
    report.isolated = len(result.isolated)
    report.dropped_fields = result.dropped_fields
    report.differing = result.differing


def _request(event: Any, kind: Any, now: datetime) -> str:
    return PredictionRequest(
        request_id=request_id(event.event_id, kind),
        user_id=event.user_id,
        kind=kind,
        event_id=event.event_id,
        event_type=event.type,
        event_timestamp=datetime.fromtimestamp(event.event_us / SECOND, UTC),
        arrived_at=datetime.fromtimestamp(event.arrived_us / SECOND, UTC),
        enqueued_at=now,
    ).model_dump_json()


def _count_online(report: PartReport, written: Iterable[Written]) -> None:
    for one in written:
        report.rows[one.place] = one.rows
        report.newest_event_us[one.place] = one.newest_event_us


def _completions(result: BatchResult) -> list[tuple[str, str, int]]:
    return [
        (event.user_id, getattr(event.event, "content_id", ""), event.event_us)
        for event, verdict, _ in result.events
        if verdict is Verdict.ON_TIME and event.type == EventType.CONTENT_COMPLETE
    ]
