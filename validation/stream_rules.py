"""Applies the stream's own validation rules to rows of the lake's `events/`. (pure)

A row is turned back into the payload that it came from and parsed by the stream's code, so stream and validation never disagree.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.types import SCHEMA_VERSION

_OWN = ("event_timestamp", "arrived_at", "verdict", "shard", "sequence")


def stream_refusals(table: pa.Table, parser: PayloadParser) -> list[str | None]:
    """Return for each row the reason why the stream would refuse it, or None if it would not."""
    sent = [name for name in table.column_names if name not in _OWN]
    times = [_text(table["event_timestamp"]), table["arrived_at"].cast(pa.int64()).to_pylist()]
    rows = zip(*(table[name].to_pylist() for name in sent), strict=True)
    return [
        _refusal(
            {name: value for name, value in zip(sent, row, strict=True) if value is not None}, at, arrived_us, parser
        )
        for row, at, arrived_us in zip(rows, *times, strict=True)
    ]


def _refusal(row: dict[str, Any], at: str | None, arrived_us: int | None, parser: PayloadParser) -> str | None:
    if arrived_us is None:
        return "arrived_at: missing"
    parsed = parser.event_of({"schema_version": SCHEMA_VERSION, "event_timestamp": at, **row}, arrived_us)
    if isinstance(parsed, MalformedEvent):
        return f"{parsed.field}: {parsed.reason}"
    event = parsed.arrival.event
    if parsed.dropped_fields:
        return f"{', '.join(_surplus(row, event.__struct_fields__))}: a {parsed.arrival.type} has no such field"
    return None if event.event_id == row["event_id"] else "event_id: not in lower case"


def _surplus(row: dict[str, Any], fields: Sequence[str]) -> list[str]:
    return sorted(name for name in row if name not in fields and name != "type")


def _text(times: pa.ChunkedArray) -> list[str | None]:
    found: list[str | None] = pc.strftime(times, format="%Y-%m-%dT%H:%M:%SZ").to_pylist()
    return found
