"""Parses a payload into an event of the app, or names the field at fault.

Strict and total: any bytes give either a `ParsedEvent` or a `MalformedEvent`, never an exception. Times carry their offset, a
field that stands twice is refused, and fields that the event's type does not have are dropped and counted. Both doors,
`POST /v1/events` and the event stream, come through here with the bytes that the client sent.

A payload without faults is decoded once, by msgspec; only one that fails, or might hide a repeated or unknown field, is
looked at field by field.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Union

import msgspec
import orjson
from msgspec.structs import astuple, force_setattr

from stillpoint.app.events import ENVELOPE, Arrival, Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.dtypes import Kind
from stillpoint.events.documents import (
    MAX_PAYLOAD_BYTES,
    MalformedEvent,
    document_of,
    half_a_character,
    pairs,
)
from stillpoint.events.values import GREATEST, LEAST, RefusedValue, refuse, shows_its_letters, value_of

FUTURE_US = 60_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ParsedEvent(NamedTuple):
    """An event, and how many fields were dropped that its type does not have."""

    arrival: Arrival
    dropped_fields: int


class _Rule(NamedTuple):
    """A type's fields, and those of them that the quick way looks at again."""

    fields: dict[str, FieldInfo]
    pairs: int
    integers: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[FieldInfo, ...]
    any_of: tuple[str, ...]


def _rule(event: type[Event]) -> _Rule:
    fields = fields_of(event)
    own = [field for name, field in fields.items() if name not in ENVELOPE]
    return _Rule(
        fields=fields,
        pairs=1 + len(fields),
        integers=tuple(one.name for one in own if one.kind is Kind.INTEGER),
        numbers=tuple(one.name for one in own if one.kind is Kind.NUMBER),
        texts=tuple(one for one in own if one.letters or (one.item is not None and one.item.letters)),
        any_of=event.any_of,
    )


class PayloadParser:
    """Reads the payloads of an app's event types. `names` are all their fields.

    >>> class Login(Event):
    ...     "The app is opened."
    >>> PayloadParser([Login]).parse(b'{"schema_version": 2}', 0)
    MalformedEvent(field='schema_version', reason='a number 2; expected 1')
    """

    def __init__(self, events: Iterable[type[Event]]) -> None:
        self.events = tuple(events)
        self._types = {event.type_name: event for event in self.events}
        union: Any = Union[tuple(self._types.values())]  # noqa: UP007  made at run time
        self._decode = msgspec.json.Decoder(union).decode
        self._rules = {event: _rule(event) for event in self._types.values()}
        self.names = tuple(dict.fromkeys(name for rule in self._rules.values() for name in rule.fields))

    def parse(self, payload: bytes, arrived_us: int) -> ParsedEvent | MalformedEvent:
        """Return the event in `payload`, or why there is none. Never raises, whatever the bytes.

        `arrived_us` is the record's arrival time in microseconds since 1970; an event more than 60 s later is refused.
        `event_id` is lower-cased, and `event_timestamp` is written in UTC with microseconds.
        """
        if len(payload) <= MAX_PAYLOAD_BYTES:
            try:
                event = self._decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._slowly(payload, arrived_us)
            rule = self._rules[type(event)]
            if _is_plain(payload, event, rule) and (event_us := _quick_time(event, arrived_us)) is not None:
                return ParsedEvent(Arrival(event, event_us, arrived_us, _key(event)), 0)
        return self._slowly(payload, arrived_us)

    def _slowly(self, payload: bytes, arrived_us: int) -> ParsedEvent | MalformedEvent:
        document = document_of(payload, self.names)
        return document if isinstance(document, MalformedEvent) else self.event_of(document, arrived_us)

    def event_of(self, document: dict[str, Any], arrived_us: int) -> ParsedEvent | MalformedEvent:
        """Return the event in a decoded payload, or why there is none. Holds the rules for every field."""
        name = "schema_version"
        try:
            values: dict[str, Any] = {name: value_of(_ENVELOPE[name], document.get(name))}
            name = "type"
            event = self._type_of(document.get(name))
            rule = self._rules[event]
            for name, field in rule.fields.items():
                value = document.get(name)
                if value is None and field.optional:
                    continue
                values[name] = value_of(field, value)
                if name == "event_timestamp":
                    event_us = _micros(values[name])
                    _refuse_future(event_us, arrived_us)
                    values[name] = written_time(event_us)
                elif name == "event_id":
                    values[name] = values[name].lower()
        except RefusedValue as refusal:
            return MalformedEvent(name, str(refusal))
        if rule.any_of and not any(values.get(name) is not None for name in rule.any_of):
            return MalformedEvent(rule.any_of[0], f"neither {' nor '.join(rule.any_of)}; expected at least one")
        dropped = len(document) - sum(name in rule.fields or name == "type" for name in document)
        made = event(**values)
        return ParsedEvent(Arrival(made, event_us, arrived_us, _key(made)), dropped)

    def _type_of(self, name: Any) -> type[Event]:
        event = self._types.get(name) if isinstance(name, str) else None
        if event is None:
            raise refuse(name, "one of " + ", ".join(self._types))
        return event


def to_payload(arrival: Arrival) -> bytes:
    """Return the event as canonical JSON: fixed order, UTC with microseconds, no absent fields.

    `parse(to_payload(arrival), arrival.arrived_us)` gives the event again.
    """
    event = type(arrival.event)
    document: dict[str, Any] = {}
    for name in fields_of(event):
        value = getattr(arrival.event, name)
        if name == "event_timestamp":
            document["type"] = event.type_name
            value = written_time(arrival.event_us)
        elif name == "event_id":
            value = value.lower()
        if value is not None:
            document[name] = value
    return orjson.dumps(document)


def _is_plain(payload: bytes, event: Event, rule: _Rule) -> bool:
    """Say whether what msgspec accepted needs no second look.

    Without escapes a quote before a colon ends a field's name, so counting them proves that nothing stood twice. Such a
    payload in ASCII, in which no text begins with a space or is empty, shows all its letters.
    """
    values = astuple(event)
    escaped = b"\\" in payload
    if escaped and half_a_character(payload):
        return False
    spaced = b" :" in payload or b"\t:" in payload or b"\n:" in payload or b"\r:" in payload
    found = pairs(payload) if escaped or spaced else payload.count(b'":')
    if found != rule.pairs - values.count(None):
        return False
    for name in rule.integers:
        value = getattr(event, name)
        if value is not None and not LEAST <= value <= GREATEST:
            return False
    for name in rule.numbers:
        if getattr(event, name) == 0.0 and math.copysign(1.0, getattr(event, name)) < 0.0:
            return False
    if rule.any_of and all(getattr(event, name) is None for name in rule.any_of):
        return False
    if escaped or b'" ' in payload or b'""' in payload or b"\x7f" in payload or not payload.isascii():
        return all(_shows(field, getattr(event, field.name)) for field in rule.texts)
    return True


def _shows(field: FieldInfo, value: Any) -> bool:
    if value is None:
        return True
    if field.item is not None:
        return all(shows_its_letters(field.item.letters, one) for one in value)
    return shows_its_letters(field.letters, value)


def _quick_time(event: Event, arrived_us: int) -> int | None:
    """Return the event's time, having written it and the id in one form; None for one that is to be refused."""
    text = event.event_timestamp
    if not event.event_id.islower() and event.event_id != event.event_id.lower():
        force_setattr(event, "event_id", event.event_id.lower())
    try:
        if len(text) == _LENGTH and text[10] == "T" and text[-1] == "Z":
            event_us = (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
        else:
            event_us = (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
            force_setattr(event, "event_timestamp", written_time(event_us))
    except (ValueError, OverflowError):
        return None
    return event_us if 0 <= event_us <= arrived_us + FUTURE_US else None


_LENGTH = len("2026-01-01T00:00:00.000000Z")


def _micros(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise refuse(text, "a time that exists, in RFC 3339") from None
    micros = (moment - _EPOCH) // _MICROSECOND
    if micros < 0:
        raise refuse(text, "a time since 1970")
    return micros


def _refuse_future(event_us: int, arrived_us: int) -> None:
    if event_us - arrived_us > FUTURE_US:
        ahead = (event_us - arrived_us) / 1_000_000
        raise RefusedValue(
            f"{ahead:.0f} s after arrival; expected at most {FUTURE_US // 1_000_000} s: a client clock is fast"
        )


def written_time(event_us: int) -> str:
    """Return a time as events carry it: RFC 3339 in UTC with microseconds."""
    return (_EPOCH + timedelta(microseconds=event_us)).isoformat(timespec="microseconds")[:-6] + "Z"


def _key(event: Event) -> bytes:
    return bytes.fromhex(event.event_id.replace("-", ""))


_ENVELOPE = fields_of(Event)
