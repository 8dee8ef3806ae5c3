"""Events as rows of the lake's `events/`, and back. The columns follow from the app's event types."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.app.events import ENVELOPE, Arrival, Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.dtypes import Kind
from stillpoint.events.parsing import written_time
from stillpoint.events.types import ENVELOPE_COLUMNS, VERDICT_COLUMNS, Verdict

_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.TEXTS: pa.list_(pa.string()),
}
_KNOWN = ("user_id", "platform")
"""What events and rows call alike, beside the fields that a type has of its own."""


def event_columns(events: Iterable[type[Event]]) -> pa.Schema:
    """Return the columns of the lake's `events/` for an app's types. Columns that a type does not carry are null.

    A field's place is that of the first type which requires it, or of the first that has it where it is always optional.
    """
    fields = [field for event in events for name, field in fields_of(event).items() if name not in ENVELOPE]
    required = {field.name for field in fields if not field.optional}
    found: dict[str, FieldInfo] = {}
    for field in fields:
        if not field.optional or field.name not in required:
            found.setdefault(field.name, field)
    own = [pa.field(name, _TYPES[field.kind]) for name, field in found.items() if field.kind is not None]
    return pa.schema([*ENVELOPE_COLUMNS, *own, *VERDICT_COLUMNS])


def events_table(
    columns: pa.Schema,
    arrivals: Sequence[Arrival],
    verdicts: Sequence[Verdict],
    shards: Sequence[str],
    sequences: Sequence[str],
) -> pa.Table:
    """Return events with their verdicts and origins in the lake's columns. The caller leaves out erased ones."""
    events = [arrival.event for arrival in arrivals]
    known: dict[str, Sequence[object]] = {
        "event_id": [event.event_id for event in events],
        "user_id": [event.user_id for event in events],
        "type": [arrival.type for arrival in arrivals],
        "event_timestamp": [arrival.event_us for arrival in arrivals],
        "arrived_at": [arrival.arrived_us for arrival in arrivals],
        "platform": [event.platform for event in events],
        "verdict": verdicts,
        "shard": shards,
        "sequence": sequences,
    }
    return pa.Table.from_arrays(
        [
            pa.array(known.get(one.name) or [getattr(event, one.name, None) for event in events], one.type)
            for one in columns
        ],
        schema=columns,
    )


class RecordedEvents:
    """Turns rows of the lake's `events/` into events of an app's types."""

    def __init__(self, events: Iterable[type[Event]]) -> None:
        self._types = {event.type_name: _typed(event) for event in events}

    def on_time(self, table: pa.Table) -> list[Arrival]:
        """Return the on-time events of a table of the lake, each record (shard, sequence) once, in the table's order.

        Fields that the table's files did not have yet are null or what the type gives where they are absent. Types that
        the app does not declare any more are left out.
        """
        micros = _in_micros(table)
        rows = zip(
            *(micros[name].to_pylist() for name in ("type", "event_id", "event_timestamp", "arrived_at")),
            *(micros[name].to_pylist() for name in ("verdict", "shard", "sequence")),
            strict=True,
        )
        columns = {name: micros[name].to_pylist() for name in micros.column_names if name in self._wanted}
        found, seen = [], set()
        for place, (kind, event_id, event_us, arrived_us, verdict, shard, sequence) in enumerate(rows):
            if verdict != Verdict.ON_TIME or (shard, sequence) in seen:
                continue
            seen.add((shard, sequence))
            typed = self._types.get(kind)
            if typed is not None:
                values = {name: columns[name][place] for name in typed.names if name in columns}
                found.append(typed.arrival(event_id, event_us, arrived_us, values))
        return found

    @property
    def _wanted(self) -> frozenset[str]:
        return frozenset(name for typed in self._types.values() for name in typed.names)


class _Typed(NamedTuple):
    """How an event of one type is made from a row."""

    event: type[Event]
    names: tuple[str, ...]
    required: frozenset[str]
    texts: frozenset[str]

    def arrival(self, event_id: str, event_us: int, arrived_us: int, values: dict[str, Any]) -> Arrival:
        given = {name: value for name, value in values.items() if value is not None}
        for name in self.texts & given.keys():
            given[name] = tuple(given[name])
        for name in self.required - given.keys():
            given[name] = None
        one = self.event(schema_version=1, event_id=event_id, event_timestamp=written_time(event_us), **given)
        return Arrival(one, event_us, arrived_us, bytes.fromhex(event_id.replace("-", "")))


def _typed(event: type[Event]) -> _Typed:
    own = {name: field for name, field in fields_of(event).items() if name not in ENVELOPE}
    return _Typed(
        event,
        (*_KNOWN, *own),
        frozenset(name for name, field in own.items() if not field.optional),
        frozenset(name for name, field in own.items() if field.kind is Kind.TEXTS),
    )


def _in_micros(table: pa.Table) -> pa.Table:
    for name in ("event_timestamp", "arrived_at"):
        table = table.set_column(table.schema.get_field_index(name), name, pc.cast(table[name], pa.int64()))
    return table
