"""The JSON object in a payload, or why there is none. Never raises, whatever the bytes. (pure)"""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson

from stillpoint.events.foreign import foreign_format

MAX_PAYLOAD_BYTES = 65_536


class MalformedEvent(NamedTuple):
    """Why a payload is not a valid event; `field` is None if no single field is at fault."""

    field: str | None
    reason: str


def document_of(payload: bytes, fields: Iterable[str] = ()) -> dict[str, Any] | MalformedEvent:
    """Return the JSON object in `payload`, or why there is none.

    `fields` are looked through for a text that was cut within a character, so that the reason can name the field.
    """
    if (foreign := foreign_format(payload)) is not None:
        return MalformedEvent(None, f"not JSON but {foreign}")
    if len(payload) > MAX_PAYLOAD_BYTES:
        return MalformedEvent(None, f"{len(payload)} bytes; expected at most {MAX_PAYLOAD_BYTES}")
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        return _no_json(payload, error, fields)
    if type(document) is not dict:
        return MalformedEvent(None, f"{json_type(document)}; expected a JSON object")
    if _repeats_a_field(payload, document):
        return MalformedEvent(None, "a field stands twice; expected each once")
    return document


def json_type(value: object) -> str:
    """Return what JSON calls a value."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "an array", dict: "an object"}
    return names[type(value)]


def half_a_character(payload: bytes) -> bool:
    """Return whether an escape may be half of a surrogate pair."""
    return _HALF_A_PAIR.search(payload) is not None


def pairs(payload: bytes) -> int:
    """Return the number of pairs of the outermost object."""
    depth = found = 0
    for token in _TOKENS.findall(payload):
        if token in b"{[":
            depth += 1
        elif token in b"}]":
            depth -= 1
        elif token == b":" and depth == 1:
            found += 1
    return found


_HALF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:]', re.DOTALL)


def _no_json(payload: bytes, error: orjson.JSONDecodeError, names: Iterable[str]) -> MalformedEvent:
    """Return why a payload is not JSON; for a text that was cut within a character also the field that holds it."""
    if not half_a_character(payload):
        return MalformedEvent(None, f"not JSON: {error}")
    try:
        lenient = json.loads(payload)
    except (ValueError, RecursionError):
        return MalformedEvent(None, f"not JSON: {error}")
    fields = lenient if isinstance(lenient, dict) else {}
    return MalformedEvent(
        next((name for name in names if type(fields.get(name)) is str and _SURROGATE.search(fields[name])), None),
        "not JSON: half of a surrogate pair, as when a text is cut within an emoji; expected whole characters",
    )


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
    return pairs(payload) != len(document)
