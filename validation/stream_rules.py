"""Applies the stream's own validation rules to rows of the lake's `events/`. (pure)

A row is turned back into the payload that it came from and parsed by the stream's code, so stream and validation never disagree.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.events.parsing import AppEvent, MalformedEvent, event_of
from stillpoint.events.types import EVENT_COLUMNS, SCHEMA_VERSION

_OWN = ("event_timestamp", "arrived_at", "verdict", "shard", "sequence")
_SENT = tuple(name for name in EVENT_COLUMNS.names if name not in _OWN)
_KEPT = AppEvent._fields[6:-1]


def stream_refusals(table: pa.Table) -> list[str | None]:
    """Return for each row the reason why the stream would refuse it, or None if it would not."""
    times = [_text(table["event_timestamp"]), table["arrived_at"].cast(pa.int64()).to_pylist()]
    sent = zip(*(table[name].to_pylist() for name in _SENT), strict=True)
    return [
        _refusal({name: value for name, value in zip(_SENT, row, strict=True) if value is not None}, at, arrived_us)
        for row, at, arrived_us in zip(sent, *times, strict=True)
    ]


def _refusal(row: dict[str, Any], at: str | None, arrived_us: int | None) -> str | None:
    if arrived_us is None:
        return "arrived_at: missing"
    event = event_of({"schema_version": SCHEMA_VERSION, "event_timestamp": at, **row}, arrived_us)
    if isinstance(event, MalformedEvent):
        return f"{event.field}: {event.reason}"
    if event.dropped_fields:
        surplus = sorted(name for name in _KEPT if name in row and getattr(event, name) is None)
        return f"{', '.join(surplus)}: a {event.type} has no such field"
    return None if event.event_id == row["event_id"] else "event_id: not in lower case"


def _text(times: pa.ChunkedArray) -> list[str | None]:
    found: list[str | None] = pc.strftime(times, format="%Y-%m-%dT%H:%M:%SZ").to_pylist()
    return found
