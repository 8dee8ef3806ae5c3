"""Trace spans of events that came over HTTP. (pure)"""

from collections.abc import Iterator, Sequence
from datetime import datetime

import orjson

from stillpoint.tracing import EVENT, Span


def spans(payloads: Sequence[tuple[str, bytes]], start: datetime, end: datetime) -> Iterator[Span]:
    """Yield one span per accepted event: the time that putting it on the stream took."""
    for _, payload in payloads:
        yield Span(
            event_id=orjson.loads(payload)["event_id"],
            key="http",
            parent=EVENT,
            name="POST /v1/events",
            start=start,
            end=end,
        )
