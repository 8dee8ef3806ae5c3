"""Events as rows of the lake's `events/`, and back."""

from collections.abc import Sequence

import pyarrow as pa

from stillpoint.events.parsing import AppEvent
from stillpoint.events.types import EVENT_COLUMNS, Category, EventType, Platform, Verdict
from stillpoint.messages import Kind

_OPTIONAL = AppEvent._fields[6:-1]


def events_table(
    events: Sequence[AppEvent], verdicts: Sequence[Verdict], shards: Sequence[str], sequences: Sequence[str]
) -> pa.Table:
    """Return events with their verdicts and origins in the columns of the lake. The caller leaves out erased ones."""
    columns: dict[str, Sequence[object]] = {
        "event_id": [event.event_id for event in events],
        "user_id": [event.user_id for event in events],
        "type": [event.type for event in events],
        "event_timestamp": [event.event_us for event in events],
        "arrived_at": [event.arrived_us for event in events],
        "platform": [event.platform for event in events],
        **{name: [getattr(event, name) for event in events] for name in _OPTIONAL},
        "verdict": verdicts,
        "shard": shards,
        "sequence": sequences,
    }
    return pa.Table.from_arrays(
        [pa.array(columns[field.name], field.type) for field in EVENT_COLUMNS], schema=EVENT_COLUMNS
    )


def on_time_events(table: pa.Table) -> list[AppEvent]:
    """Return the on-time events of a table of the lake, each record (shard, sequence) once, in the table's order."""
    wanted = [*AppEvent._fields[:3], "event_timestamp", "arrived_at", "platform", *_OPTIONAL]
    micros = table.set_column(
        table.schema.get_field_index("event_timestamp"), "event_timestamp", table["event_timestamp"].cast(pa.int64())
    )
    micros = micros.set_column(
        table.schema.get_field_index("arrived_at"), "arrived_at", table["arrived_at"].cast(pa.int64())
    )
    columns = [micros[name].to_pylist() for name in wanted]
    origins = zip(*(micros[name].to_pylist() for name in ("verdict", "shard", "sequence")), strict=True)
    events = []
    seen = set()
    for values, (verdict, shard, sequence) in zip(zip(*columns, strict=True), origins, strict=True):
        if verdict != Verdict.ON_TIME or (shard, sequence) in seen:
            continue
        seen.add((shard, sequence))
        event = AppEvent(*values)
        events.append(
            event._replace(
                type=EventType(event.type),
                platform=Platform(event.platform),
                category=None if event.category is None else Category(event.category),
                kind=None if event.kind is None else Kind(event.kind),
                items=None if event.items is None else tuple(event.items),
            )
        )
    return events
