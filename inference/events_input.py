"""Which of the events that a client sent are good? (pure)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.problems import invalid
from stillpoint.features.validate import Malformed, parse

MAX_EVENTS = 500


@dataclass(slots=True)
class SortedEvents:
    """`results` are in the order given; `accepted` are (user id, payload), `rejected` (payload, field, reason)."""

    results: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[tuple[str, bytes]] = field(default_factory=list)
    rejected: list[tuple[bytes, str | None, str]] = field(default_factory=list)


def events_in(body: Mapping[str, Any]) -> list[Any]:
    """Return the events of a body: those of `{"events": […]}`, or the body itself as the only one.

    Raises:
        Problem: 422, none or too many.
    """
    given = body["events"] if set(body) == {"events"} else [body]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_EVENTS:
        raise invalid("events", f"expected a list of 1 to {MAX_EVENTS} events")
    return given


def sort_events(given: Sequence[Any], arrived_us: int) -> SortedEvents:
    """Tell good events from bad ones; each is judged by itself."""
    sorted_out = SortedEvents()
    for document in given:
        payload = orjson.dumps(document)
        event = parse(payload, arrived_us)
        event_id = document.get("event_id") if isinstance(document, dict) else None
        result: dict[str, Any] = {"event_id": event_id if isinstance(event_id, str) else None}
        if isinstance(event, Malformed):
            sorted_out.rejected.append((payload, event.field, event.reason))
            result |= {"status": "rejected", "field": event.field, "reason": event.reason}
        else:
            sorted_out.accepted.append((event.user_id, payload))
            result |= {"status": "accepted"}
        sorted_out.results.append(result)
    return sorted_out
