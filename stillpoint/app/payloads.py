"""A payload is an event of the app, or it says which field is at fault, what was found and what was expected.

Strict and total: any bytes give either an `Arrival` or a `Malformed`, never an exception. Numbers are numbers (no
booleans, no text), times carry their offset, a field that stands twice is refused, and fields that the event's type
does not have are dropped and counted.

A payload without faults is decoded once, by msgspec; only one that fails, or might hide a repeated or unknown field, is
looked at field by field.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Union

import msgspec
from msgspec.structs import astuple

from stillpoint.app.events import EVENT_ID_PATTERN, TIMESTAMP_PATTERN, USER_ID_PATTERN, Arrival, Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.dtypes import Kind

MAX_PAYLOAD_BYTES = 65_536
FUTURE_US = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_SPACED = re.compile(rb"[ \t\n\r]:").search
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1


class Malformed(NamedTuple):
    """Why a payload is no event; `field` is None when no single field is at fault."""

    field: str | None
    reason: str


class Parsed(NamedTuple):
    """An event, and how many fields were dropped that its type does not have."""

    arrival: Arrival
    dropped_fields: int


class _Rule(NamedTuple):
    """What the class of an event cannot say in its annotations."""

    integers: tuple[str, ...]
    any_of: tuple[str, ...]


def _rule(event: type[Event]) -> _Rule:
    fields = fields_of(event).values()
    integers = tuple(one.name for one in fields if one.kind is Kind.INTEGER and one.name != "schema_version")
    return _Rule(integers, event.any_of)


class PayloadParser:
    """Reads the payloads of an app's event types."""

    def __init__(self, events: Iterable[type[Event]]) -> None:
        self._types = {event.type_name: event for event in events}
        union: Any = Union[tuple(self._types.values())]  # noqa: UP007  made at run time
        self._union = union
        self._decode = msgspec.json.Decoder(union).decode
        self._rules = {event: _rule(event) for event in self._types.values()}

    def parse(self, payload: bytes, arrived_us: int) -> Parsed | Malformed:
        """Return the event in `payload`, or why there is none. Never raises, whatever the bytes.

        `arrived_us` is when the record arrived; an event more than 60 s after it is refused.
        """
        if len(payload) <= MAX_PAYLOAD_BYTES:
            try:
                event = self._decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._slowly(payload, arrived_us)
            rule = self._rules[type(event)]
            if self._is_plain(payload, event, rule):
                return _placed(event, arrived_us, 0, rule)
        return self._slowly(payload, arrived_us)

    def _is_plain(self, payload: bytes, event: Event, rule: _Rule) -> bool:
        """Say whether no field can stand twice and no integer is too large.

        Without escapes a quote before a colon ends a field's name, so counting them proves that nothing was dropped.
        Otherwise, or with space before a colon, the payload is looked through.
        """
        for name in rule.integers:
            value = getattr(event, name)
            if value is not None and not _LEAST <= value <= _GREATEST:
                return False
        values = astuple(event)
        present = 1 + len(values) - values.count(None)
        if b"\\" in payload or _SPACED(payload) is not None:
            return _pairs(payload) == present
        return payload.count(b'":') == present

    def _slowly(self, payload: bytes, arrived_us: int) -> Parsed | Malformed:
        """Return the same, having looked at each field by itself."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            return Malformed(None, f"{len(payload)} bytes; expected at most {MAX_PAYLOAD_BYTES}")
        try:
            document = msgspec.json.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return Malformed(None, f"not JSON: {error}")
        if type(document) is not dict:
            return Malformed(None, f"{_json_type(document)}; expected a JSON object")
        if _repeats_a_field(payload, document):
            return Malformed(None, "a field stands twice; expected each once")
        return self.event_of(document, arrived_us)

    def event_of(self, document: dict[str, Any], arrived_us: int) -> Parsed | Malformed:
        """Return the event that a decoded payload is, or why it is none."""
        kind = document.get("type")
        event = self._types.get(kind) if isinstance(kind, str) else None
        if event is None:
            return Malformed("type", _refused(kind, "one of " + ", ".join(self._types)))
        fields = fields_of(event)
        own = {name: value for name, value in document.items() if name in fields or name == "type"}
        for name, field in fields.items():
            if reason := _fault(event, field, own.get(name)):
                return Malformed(name, reason)
        made = msgspec.convert({name: value for name, value in own.items() if value is not None}, self._union)
        return _placed(made, arrived_us, len(document) - len(own), self._rules[event])


def to_payload(arrival: Arrival) -> bytes:
    """Return an event as canonical JSON: fixed order, UTC with microseconds, no absent fields."""
    event = type(arrival.event)
    moment = _EPOCH + timedelta(microseconds=arrival.event_us)
    document: dict[str, Any] = {}
    for name in fields_of(event):
        value = getattr(arrival.event, name)
        if name == "event_timestamp":
            document["type"] = event.type_name
            value = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        elif name == "event_id":
            value = value.lower()
        if value is not None:
            document[name] = value
    return msgspec.json.encode(document)


def _placed(event: Event, arrived_us: int, dropped: int, rule: _Rule) -> Parsed | Malformed:
    """Return the event with its time as a number, unless there is no such time or it lies too far ahead."""
    if (names := rule.any_of) and all(getattr(event, name) is None for name in names):
        return Malformed(names[0], f"neither of {', '.join(names)}; expected at least one")
    text = event.event_timestamp
    try:
        event_us = (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
    except ValueError:
        return Malformed("event_timestamp", _refused(text, "a time that exists, in RFC 3339"))
    if event_us < 0:
        return Malformed("event_timestamp", _refused(text, "a time since 1970"))
    if event_us - arrived_us > FUTURE_US:
        ahead = (event_us - arrived_us) / 1_000_000
        reason = f"{ahead:.0f} s after arrival; expected at most {FUTURE_US // 1_000_000} s: a client clock is fast"
        return Malformed("event_timestamp", reason)
    key = bytes.fromhex(event.event_id.replace("-", ""))
    return Parsed(Arrival(event, event_us, arrived_us, key), dropped)


_EXPECTED = {
    EVENT_ID_PATTERN: "a UUID such as 0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b",
    USER_ID_PATTERN: "1 to 64 of A-Z a-z 0-9 _ -",
    TIMESTAMP_PATTERN: "RFC 3339 with an offset, at most microseconds",
}


def _fault(event: type[Event], field: FieldInfo, value: Any) -> str | None:
    """Return why a value is none of the field's, or None if it is one."""
    if value is None:
        return None if field.optional else _refused(None, _expected(field))
    if field.kind is Kind.INTEGER and type(value) is int and not _LEAST <= value <= _GREATEST:
        return _refused(value, "a 64-bit integer")
    try:
        msgspec.convert(value, field.annotation)
    except msgspec.ValidationError:
        return _refused(value, _expected(field))
    return None


def _expected(field: FieldInfo) -> str:
    """Return in words what a field holds."""
    if field.pattern in _EXPECTED:
        return _EXPECTED[field.pattern]
    if field.values is not None:
        return "one of " + ", ".join(field.values)
    low, high = field.minimum, field.maximum
    span = (
        f" from {low:g} to {high:g}"
        if low is not None and high is not None
        else f" of at least {low:g}"
        if low is not None
        else f" of at most {high:g}"
        if high is not None
        else ""
    )
    match field.kind:
        case Kind.TEXT:
            like = f", like {field.pattern}" if field.pattern else ""
            return (
                "text"
                + (span and span.replace(" of ", " of a length of ").replace(" from ", " of a length from "))
                + like
            )
        case Kind.TEXTS:
            return "an array of texts" + (
                span and span.replace(" of ", ", of a number of ").replace(" from ", ", from ")
            )
        case Kind.INTEGER:
            return f"{low:g}" if low == high and low is not None else f"an integer{span}"
        case Kind.NUMBER:
            return f"a finite number{span}"
        case Kind.FLAG:
            return "true or false"
    return "another value"


_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:]', re.DOTALL)


def _repeats_a_field(payload: bytes, document: dict[str, Any]) -> bool:
    """Say whether a top-level field stands twice, where JSON parsers silently disagree about which one counts."""
    return _pairs(payload) != len(document)


def _pairs(payload: bytes) -> int:
    """Return the number of pairs of the outermost object."""
    depth = pairs = 0
    for token in _TOKENS.findall(payload):
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif token == b":" and depth == 1:
            pairs += 1
    return pairs


def _json_type(value: object) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "an array", dict: "an object"}
    return names[type(value)]


def _refused(value: object, expected: str) -> str:
    """Return the refusal of a value, showing at most its first 60 characters and nothing nested."""
    if value is None:
        return f"missing; expected {expected}"
    if isinstance(value, list | dict):
        return f"{_json_type(value)}; expected {expected}"
    shown = repr(value[:60]) if isinstance(value, str) else repr(value)
    return f"{_json_type(value)} {shown}; expected {expected}"
