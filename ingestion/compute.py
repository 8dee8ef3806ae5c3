"""Computes what follows from a micro-batch's records: verdicts, feature rows, states, prediction requests. (pure)

Records are parsed, judged and turned into rows per user, in the order of their sequence numbers. A record whose
computation fails is found by computing its user's records one by one, and is quarantined; the others count.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ingestion.kinesis_shards import Record
from stillpoint.app.events import Arrival
from stillpoint.encoder import RememberingEncoder
from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import ParsedEvent, PayloadParser
from stillpoint.events.types import EventType, Verdict
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.state import UserState
from stillpoint.features.streamed.stream import AppStream, StepOutcome
from stillpoint.features.triggers import EXERTION_RISING, SearchedCategory, requests_for
from stillpoint.messages import Kind
from stillpoint.outages import outage
from stillpoint.tombstones import Tombstones

log = logging.getLogger(__name__)


@dataclass(slots=True)
class QuarantinedRecord:
    """A record for the quarantine, with the field at fault and the reason."""

    record: Record
    field: str | None
    reason: str


@dataclass(slots=True)
class BatchResult:
    """The result of a micro-batch. `requests` pairs each event with the kinds of recommendation that it triggers.

    `isolated` records are events all the same: one view is without them, since its definition failed with them.
    `keyed` are the on-time events of views whose keys belong to no single user: their rows are computed where all events
    of a key come together.
    """

    events: list[tuple[Arrival, Verdict, Record]] = field(default_factory=list)
    rows: dict[str, list[Row]] = field(default_factory=dict)
    keyed: dict[str, dict[Key, list[Arrival]]] = field(default_factory=dict)
    states: dict[str, tuple[bytes, UserState]] = field(default_factory=dict)
    quarantined: list[QuarantinedRecord] = field(default_factory=list)
    isolated: list[QuarantinedRecord] = field(default_factory=list)
    requests: list[tuple[Arrival, Kind]] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    dropped_fields: int = 0
    differing: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the computation depends on besides records and states: encoder, limits and tombstones."""

    stream: AppStream
    encoder: RememberingEncoder
    searched: SearchedCategory
    tombstones: Tombstones


def sort_key(record: Record) -> tuple[int, str]:
    """Return a key that sorts records as Kinesis ordered them: sequence numbers of a child shard are greater than its parent's."""
    return int(record.sequence), record.shard


def parse_records(
    records: Iterable[Record], parser: PayloadParser
) -> tuple[dict[str, list[tuple[Record, ParsedEvent]]], list[QuarantinedRecord]]:
    """Return the events of each user in order, and the records that could not be parsed."""
    users: dict[str, list[tuple[Record, ParsedEvent]]] = {}
    refused: list[QuarantinedRecord] = []
    for record in sorted(records, key=sort_key):
        found = parser.parse(record.data, record.arrived_us)
        if isinstance(found, MalformedEvent):
            refused.append(QuarantinedRecord(record, found.field, found.reason))
        elif found.arrival.event.user_id != record.partition_key:
            refused.append(
                QuarantinedRecord(record, "user_id", "differs from the record's partition key, so its order is unknown")
            )
        else:
            users.setdefault(record.partition_key, []).append((record, found))
    return users, refused


def compute(
    users: Mapping[str, Sequence[tuple[Record, ParsedEvent]]],
    refused: Sequence[QuarantinedRecord],
    states: Mapping[str, bytes],
    rules: Rules,
    *,
    now_us: int,
) -> BatchResult:
    """Return verdicts, feature rows, new states and requests. `states` holds each user's state before the batch, empty for a new user."""
    erased = [rules.tombstones.covers(item.record.partition_key, item.record.arrived_us) for item in refused]
    result = BatchResult(quarantined=[item for item, gone in zip(refused, erased, strict=True) if not gone])
    if any(erased):
        result.verdicts[Verdict.ERASED] += sum(erased)
    rules.encoder.prefetch(rules.stream.texts(found.arrival for pairs in users.values() for _, found in pairs))
    for user, pairs in users.items():
        before = states.get(user, b"")
        state = rules.stream.state(before)
        try:
            outcomes = [(pairs, _advance(state, pairs, rules))]
        except Exception as error:  # noqa: BLE001  a failure of a pure computation belongs to a record, which is found below
            _refuse_outage(error)
            log.warning("a user's records cannot be computed together; trying them one by one")
            outcomes = _one_by_one(state, pairs, rules, result)
        for chunk, outcome in outcomes:
            state = outcome.state
            _collect(result, chunk, outcome, rules, now_us)
        result.states[user] = (before, state)
    result.verdicts[Verdict.QUARANTINED] += len(result.quarantined)
    return result


def _one_by_one(
    state: UserState, pairs: Sequence[tuple[Record, ParsedEvent]], rules: Rules, result: BatchResult
) -> list[tuple[Sequence[tuple[Record, ParsedEvent]], StepOutcome]]:
    """Compute a user's records singly and quarantine those that fail."""
    outcomes: list[tuple[Sequence[tuple[Record, ParsedEvent]], StepOutcome]] = []
    for pair in pairs:
        try:
            outcome = _advance(state, [pair], rules)
        except Exception as error:  # noqa: BLE001  see above
            _refuse_outage(error)
            reason = f"computation failed: {type(error).__name__}: {error}"
            result.quarantined.append(QuarantinedRecord(pair[0], None, reason))
        else:
            outcomes.append(([pair], outcome))
            state = outcome.state
    return outcomes


def _refuse_outage(error: Exception) -> None:
    """Raise an error that no record caused, such as a lack of memory, so that the whole batch is repeated."""
    if outage(error) is not None:
        raise error


def _advance(state: UserState, pairs: Sequence[tuple[Record, ParsedEvent]], rules: Rules) -> StepOutcome:
    erased_until_us = rules.tombstones.until_us(pairs[0][1].arrival.event.user_id)
    return rules.stream.advance(state, [found.arrival for _, found in pairs], erased_until_us=erased_until_us)


def _collect(
    result: BatchResult, pairs: Sequence[tuple[Record, ParsedEvent]], outcome: StepOutcome, rules: Rules, now_us: int
) -> None:
    rising = set(outcome.turned.get(EXERTION_RISING, ()))
    result.differing += len(outcome.differing)
    for index, ((record, parsed), event, verdict) in enumerate(
        zip(pairs, outcome.events, outcome.verdicts, strict=True)
    ):
        result.verdicts[verdict] += 1
        if verdict is Verdict.ERASED:
            continue
        result.dropped_fields += parsed.dropped_fields
        result.events.append((event, verdict, record))
        if verdict is Verdict.ON_TIME:
            query = getattr(event.event, "query", None) if event.type == EventType.SEARCH else None
            searched = rules.searched.of(query) if query else None
            kinds = requests_for(event, now_us=now_us, searched=searched, rising=index in rising)
            result.requests += [(event, kind) for kind in kinds]
    records = {id(event): record for event, (record, _) in zip(outcome.events, pairs, strict=True)}
    for view, arrival, reason in outcome.isolated:
        result.isolated.append(QuarantinedRecord(records[id(arrival)], f"view {view}", reason))
    for view, rows in outcome.rows.items():
        result.rows.setdefault(view, []).extend(rows)
    for view, groups in outcome.keyed.items():
        known = result.keyed.setdefault(view, {})
        for key, arrivals in groups.items():
            known.setdefault(key, []).extend(arrivals)
