"""Parses a payload into an app event, or names the field at fault.

Strict and total: any bytes give either an `AppEvent` or a `MalformedEvent`, never an exception. Numbers are numbers (no
booleans, no text; 12.0 is the integer 12, as in JSON Schema), times carry their offset, a field that stands twice is
refused, and fields that the event's type does not have are dropped and counted. Both doors, `POST /v1/events` and the
event stream, come through here with the bytes that the client sent.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from stillpoint.clock import SECOND, from_micros
from stillpoint.events.foreign import foreign_format
from stillpoint.events.types import SCHEMA_VERSION, Category, EventType, Platform
from stillpoint.events.visible import is_blank
from stillpoint.features.declarations import FUTURE_TOLERANCE
from stillpoint.messages import Kind, is_user_id

MAX_PAYLOAD_BYTES = 65_536
MAX_QUERY_LENGTH = 200
MAX_NAME_LENGTH = 128
MAX_ITEMS = 200
MAX_STEPS = 1_000_000
HEART_RATE_RANGE = (25.0, 250.0)
_FUTURE_US = int(FUTURE_TOLERANCE.total_seconds()) * SECOND


class AppEvent(NamedTuple):
    """A valid event. Times are microseconds since 1970 UTC; fields that the event's type does not have are None."""

    event_id: str
    user_id: str
    type: EventType
    event_us: int
    arrived_us: int
    platform: Platform
    screen: str | None = None
    query: str | None = None
    play_id: str | None = None
    content_id: str | None = None
    category: Category | None = None
    position_seconds: float | None = None
    heart_rate_bpm: float | None = None
    steps: int | None = None
    recommendation_id: str | None = None
    kind: Kind | None = None
    items: tuple[str, ...] | None = None
    surface: str | None = None
    dropped_fields: int = 0


class MalformedEvent(NamedTuple):
    """Why a payload is not a valid event; `field` is None if no single field is at fault."""

    field: str | None
    reason: str


class _Refused(Exception):
    """A value is refused; its text is the reason."""


def parse(payload: bytes, arrived_us: int) -> AppEvent | MalformedEvent:
    """Return the event in `payload`, or why there is none. Never raises, whatever the bytes.

    `arrived_us` is the record's arrival time in microseconds since 1970; an event more than 60 s later is refused.
    `event_id` is lower-cased.

    >>> parse(b'{"schema_version": 2}', 0)
    MalformedEvent(field='schema_version', reason='a number 2; expected 1')
    """
    document = document_of(payload)
    return document if isinstance(document, MalformedEvent) else event_of(document, arrived_us)


def document_of(payload: bytes) -> dict[str, Any] | MalformedEvent:
    """Return the JSON object in `payload`, or why there is none. Never raises, whatever the bytes."""
    if (foreign := foreign_format(payload)) is not None:
        return MalformedEvent(None, f"not JSON but {foreign}")
    if len(payload) > MAX_PAYLOAD_BYTES:
        return MalformedEvent(None, f"{len(payload)} bytes; expected at most {MAX_PAYLOAD_BYTES}")
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return _no_json(payload, error)
    if type(document) is not dict:
        return MalformedEvent(None, f"{_json_type(document)}; expected a JSON object")
    if _repeats_a_field(payload, document):
        return MalformedEvent(None, "a field stands twice; expected each once")
    return document


def _no_json(payload: bytes, error: orjson.JSONDecodeError) -> MalformedEvent:
    """Return why a payload is not JSON; for a text that was cut within a character also the field that holds it."""
    if _HALF_A_PAIR.search(payload) is None:
        return MalformedEvent(None, f"not JSON: {error}")
    try:
        lenient = json.loads(payload)
    except (ValueError, RecursionError):
        return MalformedEvent(None, f"not JSON: {error}")
    fields = lenient if isinstance(lenient, dict) else {}
    return MalformedEvent(
        next((name for name in _CHECKS if type(fields.get(name)) is str and _SURROGATE.search(fields[name])), None),
        "not JSON: half of a surrogate pair, as when a text is cut within an emoji; expected whole characters",
    )


def event_of(document: dict[str, Any], arrived_us: int) -> AppEvent | MalformedEvent:
    """Return the event in a decoded payload, or why there is none. Holds the rules for every field."""
    field = "schema_version"
    try:
        if _integer(document.get(field)) != SCHEMA_VERSION:
            raise _refuse(document.get(field), f"{SCHEMA_VERSION}")
        field = "type"
        event_type = _event_type(document.get(field))
        field = "event_id"
        event_id = _event_id(document.get(field))
        field = "user_id"
        user_id = _user_id(document.get(field))
        field = "event_timestamp"
        event_us = _event_us(document.get(field), arrived_us)
        field = "platform"
        platform = _platform(document.get(field))
        values: dict[str, Any] = {}
        required, optional = FIELDS_OF[event_type]
        for field in required:
            values[field] = _CHECKS[field](document.get(field))
        absent = 0
        for field in optional:
            value = document.get(field)
            if value is not None:
                values[field] = _CHECKS[field](value)
            elif field not in document:
                absent += 1
    except _Refused as refusal:
        return MalformedEvent(field, str(refusal))
    if event_type is EventType.BIOMETRIC and not values:
        return MalformedEvent("heart_rate_bpm", "neither heart_rate_bpm nor steps; expected at least one")
    dropped = len(document) - 6 - len(required) - len(optional) + absent
    return AppEvent(event_id, user_id, event_type, event_us, arrived_us, platform, dropped_fields=dropped, **values)


def to_payload(event: AppEvent) -> bytes:
    """Return the event as canonical JSON: fixed order, UTC with microseconds, no absent fields.

    `parse(to_payload(event), event.arrived_us)` gives the event again.
    """
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "event_id": event.event_id,
        "user_id": event.user_id,
        "type": event.type,
        "event_timestamp": from_micros(event.event_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "platform": event.platform,
    }
    required, optional = FIELDS_OF[event.type]
    for field in required + optional:
        value = getattr(event, field)
        if value is not None:
            document[field] = value
    return orjson.dumps(document)


_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:]', re.DOTALL)


def _repeats_a_field(payload: bytes, document: dict[str, Any]) -> bool:
    """Return whether a top-level field stands twice; JSON parsers silently disagree about which one counts.

    Without escapes, each colon belongs to a pair or is in a text, so counting them proves that no pair was dropped; only
    if the count differs is the payload searched.
    """
    if b"\\" not in payload:
        colons = len(document)
        for key, value in document.items():
            colons += key.count(":")
            if type(value) is str:
                colons += value.count(":")
        if payload.count(b":") == colons:
            return False
    depth = pairs = 0
    for token in _TOKENS.findall(payload):
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif token == b":" and depth == 1:
            pairs += 1
    return pairs != len(document)


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "an array", dict: "an object"}
    return names[type(value)]


def _refuse(value: object, expected: str) -> _Refused:
    """Return the refusal of a value, showing at most its first 60 characters and nothing nested."""
    if value is None:
        return _Refused(f"missing; expected {expected}")
    if isinstance(value, list | dict):
        return _Refused(f"{_json_type(value)}; expected {expected}")
    shown = repr(value[:60]) if isinstance(value, str) else repr(value)
    return _Refused(f"{_json_type(value)} {shown}; expected {expected}")


def _member(values: dict[str, Any]) -> Callable[[Any], Any]:
    expected = "one of " + ", ".join(values)

    def check(value: Any) -> Any:
        member = values.get(value) if type(value) is str else None
        if member is None:
            raise _refuse(value, expected)
        return member

    return check


_EVENT_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-5][0-9])"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _event_id(value: Any) -> str:
    if type(value) is not str or _EVENT_ID.fullmatch(value) is None:
        raise _refuse(value, "a UUID such as 0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b")
    return value.lower()


def _user_id(value: Any) -> str:
    if not is_user_id(value):
        raise _refuse(value, "1 to 64 of A-Z a-z 0-9 _ -")
    return value


def _event_us(value: Any, arrived_us: int) -> int:
    if type(value) is not str or _TIMESTAMP.fullmatch(value) is None:
        raise _refuse(value, "RFC 3339 with an offset, at most microseconds")
    try:
        moment = datetime.fromisoformat(value.upper())
    except ValueError:
        raise _refuse(value, "a time that exists, in RFC 3339") from None
    micros = (moment - _EPOCH) // _MICROSECOND
    if micros < 0:
        raise _refuse(value, "a time since 1970")
    if micros - arrived_us > _FUTURE_US:
        ahead = (micros - arrived_us) / SECOND
        raise _Refused(
            f"{ahead:.0f} s after arrival; expected at most {_FUTURE_US // SECOND} s: a client clock is fast"
        )
    return micros


def _name(value: Any) -> str:
    if type(value) is not str or not 1 <= len(value) <= MAX_NAME_LENGTH or not value.isprintable() or is_blank(value):
        raise _refuse(value, f"1 to {MAX_NAME_LENGTH} printable characters, not blank")
    return value


def _query(value: Any) -> str:
    if type(value) is not str or not 1 <= len(value) <= MAX_QUERY_LENGTH or "\x00" in value or is_blank(value):
        raise _refuse(value, f"1 to {MAX_QUERY_LENGTH} characters, not blank")
    return value


def _number(value: Any, low: float, high: float, expected: str) -> float:
    if (type(value) is not float and type(value) is not int) or not low <= value <= high:
        raise _refuse(value, expected)
    return float(value) + 0.0


def _position(value: Any) -> float:
    return _number(value, 0.0, math.nextafter(math.inf, 0.0), "a finite number of at least 0")


def _heart_rate(value: Any) -> float:
    low, high = HEART_RATE_RANGE
    return _number(value, low, high, f"a number from {low:g} to {high:g}")


def _integer(value: Any) -> int | None:
    """Return an integer in any notation: in JSON Schema, and so in OpenAPI, 12.0 and 1.2e1 are the integer 12."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _steps(value: Any) -> int:
    found = _integer(value)
    if found is None or not 0 <= found <= MAX_STEPS:
        raise _refuse(value, f"an integer from 0 to {MAX_STEPS}")
    return found


def _items(value: Any) -> tuple[str, ...]:
    if type(value) is not list or not 1 <= len(value) <= MAX_ITEMS:
        raise _refuse(value, f"an array of 1 to {MAX_ITEMS} content ids")
    return tuple(map(_name, value))


_event_type = _member({str(member): member for member in EventType})
_platform = _member({str(member): member for member in Platform})

_CHECKS: dict[str, Callable[[Any], Any]] = {
    "screen": _name,
    "query": _query,
    "play_id": _name,
    "content_id": _name,
    "category": _member({str(member): member for member in Category}),
    "position_seconds": _position,
    "heart_rate_bpm": _heart_rate,
    "steps": _steps,
    "recommendation_id": _name,
    "kind": _member({str(member): member for member in Kind}),
    "items": _items,
    "surface": _name,
}

_PLAY = ("play_id", "content_id", "category")
FIELDS_OF: dict[EventType, tuple[tuple[str, ...], tuple[str, ...]]] = {
    EventType.LOGIN: ((), ()),
    EventType.SUBSCRIPTION_RENEWED: ((), ()),
    EventType.NAVIGATION: (("screen",), ()),
    EventType.SEARCH: (("query",), ()),
    EventType.CONTENT_START: (_PLAY, ("recommendation_id",)),
    EventType.CONTENT_PAUSE: ((*_PLAY, "position_seconds"), ()),
    EventType.CONTENT_EXIT: ((*_PLAY, "position_seconds"), ()),
    EventType.CONTENT_COMPLETE: ((*_PLAY, "position_seconds"), ()),
    EventType.BIOMETRIC: ((), ("heart_rate_bpm", "steps")),
    EventType.IMPRESSION: (("recommendation_id", "kind", "items", "surface"), ()),
}
"""The fields that each type requires, and those that it may carry."""
