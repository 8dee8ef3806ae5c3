"""Any payload gives an event, or the field at fault with what was found and expected."""

import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillpoint.app import Annotated, Event, Meta
from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import ParsedEvent, PayloadParser, to_payload

NOW = 1_767_225_600_000_000


class Search(Event):
    query: Annotated[str, Meta(min_length=1, max_length=200)]


class Sample(Event, any_of=("bpm", "steps")):
    bpm: Annotated[float, Meta(ge=25, le=250)] | None = None
    steps: int | None = None
    tags: tuple[str, ...] = ()


PARSER = PayloadParser([Search, Sample])
BASE = {
    "schema_version": 1,
    "event_id": "0B8F6A1E-3c5d-4e7f-8a9b-0c1d2e3f4a00",
    "user_id": "u1",
    "event_timestamp": "2025-12-31T23:59:00.000001Z",
    "platform": "ios",
}


def parse(**fields):
    return PARSER.parse(json.dumps(BASE | fields).encode(), NOW)


def test_an_event_has_its_times_and_its_id_as_bytes():
    found = parse(type="search", query="a: b")
    assert isinstance(found, ParsedEvent)
    assert (found.arrival.event.query, found.dropped_fields) == ("a: b", 0)
    assert found.arrival.event_us == 1_767_225_540_000_001
    assert found.arrival.key.hex() == "0b8f6a1e3c5d4e7f8a9b0c1d2e3f4a00"
    assert PARSER.parse(to_payload(found.arrival), NOW).arrival[1:] == found.arrival[1:]


def test_unknown_fields_are_dropped_and_counted():
    assert parse(type="search", query="a", more=1, most=[2]).dropped_fields == 2


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"type": "search"}, "query", "missing; expected 1 to 200 characters"),
        ({"type": "search", "query": ""}, "query", "text ''; expected 1 to 200 characters"),
        ({"type": "sample", "bpm": True}, "bpm", "a boolean True; expected a number from 25 to 250"),
        ({"type": "sample", "steps": 1.5}, "steps", "a number 1.5; expected an integer"),
        ({"type": "sample", "steps": 2**63}, "steps", "a number 9223372036854775808; expected a 64-bit integer"),
        ({"type": "sample"}, "bpm", "neither bpm nor steps; expected at least one"),
        ({"type": "sample", "steps": 1, "tags": ["a", 1]}, "tags", "a number 1; expected text"),
        ({"type": "dream"}, "type", "text 'dream'; expected one of search, sample"),
        (
            {"type": "search", "query": "a", "user_id": "a b"},
            "user_id",
            "text 'a b'; expected 1 to 64 of A-Z a-z 0-9 _ -",
        ),
        ({"type": "search", "query": "a", "schema_version": 2}, "schema_version", "a number 2; expected 1"),
        (
            {"type": "search", "query": "a", "platform": "tv"},
            "platform",
            "text 'tv'; expected one of ios, android, web",
        ),
        (
            {"type": "search", "query": "a", "event_timestamp": "2025-02-30T00:00:00Z"},
            "event_timestamp",
            "text '2025-02-30T00:00:00Z'; expected a time that exists, in RFC 3339",
        ),
        (
            {"type": "search", "query": "a", "event_timestamp": "2025-12-31T23:59:00.0000001Z"},
            "event_timestamp",
            "text '2025-12-31T23:59:00.0000001Z'; expected RFC 3339 with an offset, at most microseconds",
        ),
        (
            {"type": "search", "query": "a", "event_timestamp": "2026-01-01T00:01:01Z"},
            "event_timestamp",
            "61 s after arrival; expected at most 60 s: a client clock is fast",
        ),
    ],
)
def test_a_fault_names_its_field(fields, field, reason):
    assert parse(**fields) == MalformedEvent(field, reason)


def test_a_field_that_stands_twice_is_refused_however_it_is_written():
    for twice in ('"query":"a","query":"b"', '"query" :"a", "query": "b"', '"query":"a","qu\\u0065ry":"b"'):
        text = json.dumps(BASE | {"type": "search"})[:-1] + "," + twice + "}"
        assert PARSER.parse(text.encode(), NOW) == MalformedEvent(None, "a field stands twice; expected each once")


@given(
    st.binary()
    | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(
        lambda v: json.dumps(v).encode()
    )
)
def test_any_bytes_give_an_answer(payload):
    assert isinstance(PARSER.parse(payload, NOW), MalformedEvent)


@given(
    st.dictionaries(
        st.sampled_from([*BASE, "type", "query", "bpm", "steps", "tags", "other"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
def test_the_quick_way_and_the_slow_way_agree(changes):
    document = {**BASE, "type": "search", "query": "a", **changes}
    payload = json.dumps(document).encode()
    if re.search(rb"NaN|Infinity", payload):
        return
    assert PARSER.parse(payload, NOW) == PARSER.event_of(orjson.loads(payload), NOW)
