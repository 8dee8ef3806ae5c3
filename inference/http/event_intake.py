"""Separates valid from invalid events in a request body (pure).

The body is split into the bytes of its events before anything is parsed, and each event is checked as the stream checks a
record: by `stillpoint.events.parsing`, from the client's own bytes, which are also what is put on the stream. So one bad
event does not spoil its batch, and HTTP and stream judge alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from inference.http.json_parts import NotCut, Parts
from inference.http.problems import Problem, invalid
from stillpoint.events.documents import MAX_PAYLOAD_BYTES, MalformedEvent, document_of
from stillpoint.events.parsing import PayloadParser

MAX_EVENTS = 500
_BATCH = "events"
_MOST_FIELDS = MAX_PAYLOAD_BYTES // len('"":1,')


@dataclass(slots=True)
class SortedEvents:
    """Checked events: `results` in request order, `accepted` as (user id, payload), `rejected` as (payload, field, reason)."""

    results: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[tuple[str, bytes]] = field(default_factory=list)
    rejected: list[tuple[bytes, str | None, str]] = field(default_factory=list)


def events_in(body: bytes) -> list[bytes]:
    """Return the bytes of each event in a body: those of `{"events": […]}`, or the body itself as the only one.

    >>> events_in(b'{"events": [{"type": "login"}, 12.0]}')
    [b'{"type": "login"}', b'12.0']

    Raises:
        Problem: 400 if the body cannot be split into events; 422 for none or too many, or for a field beside `events`.
    """
    try:
        whole = Parts(body)
        if whole.opens != b"{":
            raise invalid("body", "expected a JSON object")
        if whole.count > _MOST_FIELDS:  # too many fields for one event, and not just `events`
            return [whole.text]
        names = [(_name(written), value) for written, value in whole.members()]
        lists = [value for name, value in names if name == _BATCH]
        if not lists:
            return [whole.text]
        if len(names) > 1:
            raise invalid(_BATCH, _beside([name for name, _ in names]))
        if lists[0][:1] != b"[":
            raise _wrong_number()
        array = Parts(lists[0])
        given = list(array.elements()) if array.count <= MAX_EVENTS else []
    except NotCut as error:
        if _is_other_json(body):
            raise invalid("body", "expected a JSON object") from None
        raise Problem(400, "Bad request", f"the body is not JSON: {error}", field="body") from None
    if not 1 <= len(given) <= MAX_EVENTS:
        raise _wrong_number()
    return given


def sort_events(given: Sequence[bytes], arrived_us: int, parser: PayloadParser) -> SortedEvents:
    """Check each event by itself, as of its arrival in microseconds since 1970."""
    sorted_out = SortedEvents()
    for payload in given:
        document = document_of(payload, parser.names)
        found = document if isinstance(document, MalformedEvent) else parser.event_of(document, arrived_us)
        event_id = None if isinstance(document, MalformedEvent) else document.get("event_id")
        result: dict[str, Any] = {"event_id": event_id if isinstance(event_id, str) else None}
        if isinstance(found, MalformedEvent):
            sorted_out.rejected.append((payload, found.field, found.reason))
            result |= {"status": "rejected", "field": found.field, "reason": found.reason}
        else:
            sorted_out.accepted.append((found.arrival.event.user_id, payload))
            result |= {"status": "accepted"}
        sorted_out.results.append(result)
    return sorted_out


def _name(written: bytes) -> str | None:
    """Return a member's name, or None if it is not a JSON string; parsing the event reports that."""
    try:
        name = orjson.loads(written)
    except orjson.JSONDecodeError:
        return None
    return name if isinstance(name, str) else None


def _beside(names: Sequence[str | None]) -> str:
    others = [name for name in names if name != _BATCH]
    shown = ascii(others[0])[:42] if others else "another `events`"
    return f"{shown} stands beside it; expected the list of events alone, or one event without such a field"


def _wrong_number() -> Problem:
    return invalid(_BATCH, f"expected a list of 1 to {MAX_EVENTS} events")


def _is_other_json(body: bytes) -> bool:
    """Return whether a body that is not an object is valid JSON."""
    try:
        return not isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False
