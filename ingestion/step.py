"""The executor's half of a micro-batch: loads states, computes, and writes.

It writes first every colour online, then the lake's files, last the states, and returns a report: files to commit, requests to send,
counts. Nothing counts before the driver commits, and each write can be repeated, so a part that fails anywhere is repeated as a whole.
"""

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.compute import BatchResult, QuarantinedRecord, Rules, compute, parse_records
from ingestion.kinesis_shards import Record, shard_of
from ingestion.state_store import Change, StateStore
from stillpoint.app.load import App, load_app
from stillpoint.app.records import Origin
from stillpoint.clock import SECOND, Clock, system_clock, to_micros
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.errors import InvalidInput
from stillpoint.events.quarantine import QuarantineRow, quarantine_table
from stillpoint.events.recorded import events_table
from stillpoint.events.types import EventType, Verdict
from stillpoint.features.columns import rows_table
from stillpoint.features.declarations import STREAMED_VIEWS
from stillpoint.features.streamed.stream import AppStream
from stillpoint.features.triggers import SearchedCategory
from stillpoint.finished import add_finished
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.objects import open_objects
from stillpoint.lake.tables import Lake
from stillpoint.messages import PredictionRequest, request_id
from stillpoint.releases.write_targets import Control
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.tombstones import Tombstones, erasure_key


@dataclass(frozen=True, slots=True)
class Batch:
    """What all parts of one micro-batch share. `is_replay`: the lake holds this micro-batch already, so only its prediction requests are sent.

    `instance` names the run of Redis's shards that hold all states up to this batch. `erased` holds the tombstones at the start of it.
    """

    settings: Settings
    query: str
    number: int
    epoch: int
    control: Control
    is_replay: bool
    instance: str
    erased: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class PartReport:
    """What one part did. `seconds` by stage; `freshness` counts records by hundredths of a second from arrival until their features
    were readable. `rows` and `newest_event_us` are by `colour/view`."""

    files: list[CommittedFile] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    freshness: dict[str, int] = field(default_factory=dict)
    newest_event_us: dict[str, int] = field(default_factory=dict)
    newest_arrival_us: int = 0
    dropped_fields: int = 0
    differing: int = 0

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "files": [file.model_dump(mode="json") for file in self.files]})

    @classmethod
    def from_json(cls, text: str) -> "PartReport":
        value = json.loads(text)
        return cls(**{**value, "files": [CommittedFile.model_validate(file) for file in value["files"]]})


@dataclass(frozen=True, slots=True)
class Clients:
    """What a Python worker keeps open between micro-batches."""

    rules: Rules
    lake: Lake
    states: StateStore
    writers: dict[str, OnlineWriter]
    serving: RedisClient


@lru_cache(maxsize=4)
def open_clients(settings: Settings, query: str, control: Control) -> Clients:
    """Build a worker's clients, once for each generation of write targets. An executor is an entry point, so clients are built here."""
    rules = rules_of(settings)
    writers = {
        target.project: OnlineWriter(connect(settings.connection(target.colour)), target.project)
        for target in control.targets
    }
    state_client = connect(settings.redis_state.get_secret_value())
    lake = Lake(open_objects(settings.lake, settings.aws_client_arguments()))
    serving = connect(settings.redis_serving.get_secret_value())
    return Clients(rules, lake, StateStore(state_client, query), writers, serving)


def refuse_unstored(app: App) -> None:
    """Refuse an app with a streamed view whose rows no store has columns for.

    Raises:
        InvalidInput: it names the views.
    """
    stored = {view.name: view.feature_names for view in STREAMED_VIEWS}
    other = [
        one.name for one in app.records if one.origin is Origin.STREAMED and stored.get(one.name) != one.feature_names
    ]
    if other:
        raise InvalidInput(
            f"app {app.name}: the stores have no columns for the features of {', '.join(other)}; "
            "declare the view in stillpoint/features/declarations.py too"
        )


@lru_cache(maxsize=1)
def rules_of(settings: Settings) -> Rules:
    """Load the app that the settings name, and return by what the stream computes."""
    app = load_app(settings.app)
    refuse_unstored(app)
    encoder = RememberingEncoder(WordLlamaEncoder())
    age_us = settings.max_event_age * SECOND
    return Rules(
        stream=AppStream(app, encoder=encoder, max_event_age_us=age_us),
        encoder=encoder,
        searched=SearchedCategory(encoder),
        tombstones=Tombstones(erasure_key(settings)),
    )


def run_part(records: Iterable[Record], batch: Batch, *, clock: Clock = system_clock) -> PartReport:
    """Process one part of a micro-batch with all its effects: online rows, lake files, states."""
    clients = open_clients(batch.settings, batch.query, batch.control)
    report = PartReport()
    started = time.perf_counter()
    listed = list(records)
    users, refused = parse_records(listed)
    states = clients.states.load(list(users), batch.number, instance=batch.instance)
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
        return report
    tables = {
        view.name: rows_table(view, result.rows[view.name]) for view in STREAMED_VIEWS if view.name in result.rows
    }
    _write_online(clients, batch, tables, report)
    add_finished(clients.serving, _completions(result))
    readable_us = to_micros(clock())
    report.freshness = dict(Counter(str(max(0, readable_us - r.arrived_us) * 100 // SECOND) for r in listed))
    started = _lap(report, "online", started)
    report.files = _write_lake(clients.lake, batch, result, tables)
    started = _lap(report, "lake", started)
    changes = {
        user: Change(before, state.to_bytes(), clients.rules.stream.expires_us(state))
        for user, (before, state) in result.states.items()
    }
    clients.states.save(changes, batch=batch.number, epoch=batch.epoch)
    _lap(report, "state_write", started)
    return report


def map_part(batches: Iterator[pa.RecordBatch], batch: Batch) -> Iterator[pa.RecordBatch]:
    """Process one Spark partition and yield its report as one row of JSON; for `mapInArrow`."""
    columns = [[], [], [], [], []]  # type: list[list[Any]]
    for part in batches:
        for column, array in zip(columns, part.columns, strict=True):
            column.extend(array.to_pylist())
    if columns[0]:
        rows = zip(*columns, strict=True)
        records = (Record(shard or shard_of(sequence), sequence, *more) for shard, sequence, *more in rows)
        report = run_part(records, batch)
        yield pa.RecordBatch.from_pydict({"report": [report.to_json()]})


def _lap(report: PartReport, stage: str, started: float) -> float:
    now = time.perf_counter()
    report.seconds[stage] = now - started
    return now


def _count(report: PartReport, result: BatchResult) -> None:
    report.verdicts = {str(verdict): count for verdict, count in result.verdicts.items() if count}
    report.reasons = dict(Counter(item.field or "record" for item in result.quarantined))
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


def _write_online(clients: Clients, batch: Batch, tables: dict[str, pa.Table], report: PartReport) -> None:
    for target in batch.control.targets:
        for view in STREAMED_VIEWS:
            if view.name in tables and view.name in target.views:
                table = tables[view.name]
                clients.writers[target.project].write(ViewLayout.of(view), table)
                place = f"{target.colour}/{view.name}"
                report.rows[place] = table.num_rows
                report.newest_event_us[place] = pc.max(table["event_timestamp"]).cast(pa.int64()).as_py()


def _completions(result: BatchResult) -> list[tuple[str, str, int]]:
    return [
        (event.user_id, event.content_id, event.event_us)
        for event, verdict, _ in result.events
        if verdict is Verdict.ON_TIME and event.type is EventType.CONTENT_COMPLETE and event.content_id
    ]


def _write_lake(lake: Lake, batch: Batch, result: BatchResult, tables: dict[str, pa.Table]) -> list[CommittedFile]:
    name = f"stream-{batch.query}-{batch.number:012d}-{batch.epoch}-{uuid.uuid4().hex[:8]}"
    written: list[CommittedFile] = []
    if result.events:
        events, verdicts, records = zip(*result.events, strict=True)
        table = events_table(events, verdicts, [r.shard for r in records], [r.sequence for r in records])
        written += [lake.write("events", day, name, part) for day, part in by_date(table)]
    for view in STREAMED_VIEWS:
        if view.name in tables:
            written += [lake.write(feature_dataset(view), day, name, part) for day, part in by_date(tables[view.name])]
    if result.quarantined:
        table = quarantine_table([quarantine_row(item) for item in result.quarantined])
        written += [lake.write("quarantine", day, name, part) for day, part in by_date(table, "arrived_at")]
    return written


def quarantine_row(item: QuarantinedRecord) -> QuarantineRow:
    """Return a refused record as a row of the lake's `quarantine/`."""
    record = item.record
    return QuarantineRow(
        record.arrived_us,
        record.shard,
        record.sequence,
        record.partition_key,
        item.field,
        item.reason,
        record.data,
    )
