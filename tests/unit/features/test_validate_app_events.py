"""Every payload is an event or a reason, by the rules of the schema."""

import json
import random
import uuid
from pathlib import Path

import pytest

from stillpoint.clock import SECOND
from stillpoint.events.documents import MAX_PAYLOAD_BYTES, MalformedEvent
from stillpoint.events.parsing import ParsedEvent, to_payload
from tests.support.wellness import APP, parse

GOLDEN = Path(__file__).parents[2] / "golden" / "events_v1.jsonl"
ARRIVED = 1_767_225_600 * SECOND
BASE = {
    "schema_version": 1,
    "event_id": "0B8F6A1E-3C5D-4E7F-8A9B-0C1D2E3F4A5B",
    "user_id": "u_1-x",
    "event_timestamp": "2026-01-01T00:00:00Z",
    "platform": "ios",
}
PLAY = {"play_id": "p1", "content_id": "c1", "category": "sleep"}


def payload(**fields):
    return json.dumps({**BASE, **fields}).encode()


def exit_event(**fields):
    return payload(type="content_exit", **{**PLAY, "position_seconds": 3, **fields})


def refused(data, arrived_us=ARRIVED):
    found = parse(data, arrived_us)
    assert isinstance(found, MalformedEvent), found
    return found


def test_every_golden_event_is_parsed_and_written_back_byte_for_byte():
    lines = GOLDEN.read_bytes().splitlines()
    events = [parse(line, ARRIVED).arrival for line in lines]
    assert {event.type for event in events} == {event.type_name for event in APP.events}
    assert [to_payload(event) for event in events] == lines


def test_the_event_id_is_lowered_and_the_time_is_taken_to_utc():
    event = parse(exit_event(event_timestamp="2026-01-01t01:00:00.000001+01:00"), ARRIVED).arrival
    assert (event.event_id, event.event_us) == (BASE["event_id"].lower(), ARRIVED + 1)


def test_unknown_fields_and_those_of_other_types_are_dropped_and_counted():
    found = parse(payload(type="login", query="sleep", colour={"deep": [1]}), ARRIVED)
    assert (hasattr(found.arrival.event, "query"), found.dropped_fields) == (False, 2)
    assert parse(payload(type="biometric", heart_rate_bpm=60, steps=None), ARRIVED).dropped_fields == 0


def test_a_clock_is_sixty_seconds_fast_at_most():
    assert isinstance(parse(exit_event(event_timestamp="2026-01-01T00:01:00Z"), ARRIVED), ParsedEvent)
    found = refused(exit_event(event_timestamp="2026-01-01T00:01:00.000001Z"))
    assert found.field == "event_timestamp"
    assert "60 s after arrival; expected at most 60 s" in found.reason


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (b"", None, "not JSON"),
        (b"{", None, "not JSON"),
        (b"null", None, "null; expected a JSON object"),
        (b"[1]", None, "an array; expected a JSON object"),
        (b'{"a":"\xff"}', None, "not JSON"),
        (b'{"a":"\\ud800"}', None, "half of a surrogate pair"),
        (payload(type="search", query="\ud83d"), "query", "half of a surrogate pair"),
        (b'{"a":NaN}', None, "not JSON"),
        (b"\xef\xbb\xbf{}", None, "not JSON"),
        (b"[" * 50_000, None, "not JSON"),
        (b'{"a":"' + b"x" * MAX_PAYLOAD_BYTES + b'"}', None, "expected at most 65536"),
        (payload(type="login")[:-1] + b',"user_id":"u2"}', None, "stands twice"),
        (payload(type="login")[:-1] + b',"user\\u005fid" : "u2"}', None, "stands twice"),
        (payload(type="login", schema_version=2), "schema_version", "a number 2; expected 1"),
        (payload(type="login", schema_version=True), "schema_version", "a boolean True; expected 1"),
        (payload(type="login", schema_version=1.5), "schema_version", "a number 1.5; expected 1"),
        (payload(type="sneeze"), "type", "text 'sneeze'; expected one of login"),
        (payload(), "type", "missing"),
        (payload(type="login", event_id="7"), "event_id", "expected a UUID"),
        (payload(type="login", user_id="a b"), "user_id", "1 to 64 of"),
        (payload(type="login", user_id="u1\n"), "user_id", "1 to 64 of"),
        (payload(type="login", user_id="u" * 65), "user_id", "1 to 64 of"),
        (payload(type="login", platform="tv"), "platform", "one of ios, android, web"),
        (payload(type="login", platform=json.loads("[" * 500 + "]" * 500)), "platform", "an array; expected"),
        (payload(type="login", event_timestamp="2026-01-01T00:00:00"), "event_timestamp", "with an offset"),
        (payload(type="login", event_timestamp="2026-01-01T00:00:00.1234567Z"), "event_timestamp", "at most micro"),
        (payload(type="login", event_timestamp="2026-02-30T00:00:00Z"), "event_timestamp", "a time that exists"),
        (payload(type="login", event_timestamp="0001-01-01T00:00:00+01:00"), "event_timestamp", "since 1970"),
        (payload(type="login", event_timestamp=1767225600), "event_timestamp", "RFC 3339"),
        (payload(type="navigation"), "screen", "missing"),
        (payload(type="search", query=" \t "), "query", "not blank"),
        (payload(type="search", query=""), "query", "1 to 200 characters"),
        (payload(type="search", query="x" * 201), "query", "1 to 200 characters"),
        (payload(type="search", query="a\x00b"), "query", "1 to 200 characters"),
        (exit_event(position_seconds=-0.001), "position_seconds", "at least 0"),
        (exit_event(position_seconds=True), "position_seconds", "a boolean True"),
        (exit_event(position_seconds="3"), "position_seconds", "text '3'"),
        (exit_event(position_seconds=None), "position_seconds", "missing"),
        (exit_event().replace(b": 3", b": 1e999"), None, "not JSON"),
        (exit_event(category="Sleep"), "category", "one of sleep"),
        (exit_event(play_id="\x00"), "play_id", "printable"),
        (payload(type="biometric"), "heart_rate_bpm", "neither heart_rate_bpm nor steps"),
        (payload(type="biometric", heart_rate_bpm=None, steps=None), "heart_rate_bpm", "neither"),
        (payload(type="biometric", heart_rate_bpm=24.99), "heart_rate_bpm", "from 25 to 250"),
        (payload(type="biometric", heart_rate_bpm=250.01), "heart_rate_bpm", "from 25 to 250"),
        (payload(type="biometric", steps=1.5), "steps", "an integer"),
        (payload(type="biometric", steps=-1), "steps", "an integer"),
        (payload(type="biometric", steps=2**70), "steps", "an integer"),
        (payload(type="impression", recommendation_id="r", kind="x", items=["c"], surface="s"), "kind", "one of today"),
        (payload(type="impression", recommendation_id="r", kind="today", items="c", surface="s"), "items", "an array"),
        (
            payload(type="impression", recommendation_id="r", kind="today", items=[1], surface="s"),
            "items",
            "a number 1",
        ),
    ],
)
def test_a_bad_payload_is_refused_with_its_field_and_reason(data, field, reason):
    found = refused(data)
    assert found.field == field
    assert reason in found.reason
    assert len(found.reason) < 400


@pytest.mark.parametrize("text", ["12", "12.0", "1.2e1", "1200E-2"])
def test_an_integer_is_one_however_json_writes_it(text):
    data = payload(type="biometric", steps="S").replace(b'"S"', text.encode())
    event = parse(data, ARRIVED)
    steps = event.arrival.event.steps
    assert (steps, type(steps)) == (12, int)
    assert parse(data.replace(b'"schema_version": 1,', b'"schema_version": 1.0,'), ARRIVED) == event


BLANKS = [
    "\u200b",
    "\u2800",
    "\u3164",
    "\u115f\u1160",
    "\ufeff",
    "\u2060\u200d",
    "\u00ad",
    "\u202e",
    "\u3000",
    "\uffa0",
    "\u180e",
]
BLANKS += ["\ufe0f", "\U000e0020", "\x1c", "\x85", "\u00a0\t", "\u034f", "\U0001d159", "\U000e0100", "\u2028", "\u0378"]


@pytest.mark.parametrize("blank", BLANKS)
def test_a_text_that_shows_nothing_is_no_query_and_no_name(blank):
    assert "not blank" in refused(payload(type="search", query=blank)).reason
    assert "not blank" in refused(payload(type="search", query=f" {blank}{blank}")).reason
    assert "not blank" in refused(payload(type="navigation", screen=blank)).reason
    assert parse(payload(type="search", query=f"{blank}é"), ARRIVED).arrival.event.query == f"{blank}é"


@pytest.mark.parametrize("query", ["睡眠", "é", "\u0301", "😴", "👩\u200d🚀", "؟", "¿", "\ue000"])
def test_a_query_in_any_script_is_one(query):
    assert parse(payload(type="search", query=query), ARRIVED).arrival.event.query == query


def fuzzed(count, seed):
    """Yield valid events, mutated: bytes flipped, cut, doubled, values replaced by telling ones, nests, random bytes."""
    chance = random.Random(seed)
    lines = GOLDEN.read_bytes().splitlines()
    odd = [
        None,
        True,
        False,
        -1,
        0,
        1e308,
        -0.0,
        2**63,
        2**70,
        "",
        " ",
        "\x00",
        "\U0001f600",
        "x" * 5000,
        [],
        {},
        [[[]]],
        {"a": {}},
    ]
    for _ in range(count):
        line = bytearray(chance.choice(lines))
        match chance.randrange(8):
            case 0:
                for _ in range(chance.randint(1, 4)):
                    line[chance.randrange(len(line))] = chance.randrange(256)
            case 1:
                del line[chance.randrange(len(line)) :]
            case 2:
                line = bytearray(chance.randbytes(chance.randrange(300)))
            case 3 | 4 | 5:
                document = json.loads(line)
                document[chance.choice([*document, "extra"])] = chance.choice(odd)
                line = bytearray(json.dumps(document, ensure_ascii=chance.random() < 0.5).encode())
            case 6:
                depth = chance.randint(1, 3000)
                line = line[:-1] + b',"deep":' + b"[" * depth + b"]" * depth + b"}"
            case _:
                at = chance.randrange(len(line))
                line[at:at] = chance.choice(
                    [b"\\", b'"', b"\\ud800", b"\xff\xfe", b":", b"NaN", b"1e999", b',"type":"login"']
                )
        yield bytes(line)


def assert_total(count, seed):
    accepted = 0
    for data in fuzzed(count, seed):
        found = parse(data, ARRIVED)
        if isinstance(found, ParsedEvent):
            accepted += 1
            again = parse(to_payload(found.arrival), ARRIVED)
            assert again == found._replace(dropped_fields=0)
        else:
            assert isinstance(found, MalformedEvent)
            assert found.reason
    assert 0.05 < accepted / count < 0.6


def test_twenty_thousand_fuzzed_payloads_are_each_accepted_or_refused():
    assert_total(20_000, seed=1)


@pytest.mark.soak
def test_a_hundred_thousand_fuzzed_payloads_are_each_accepted_or_refused():
    assert_total(100_000, seed=uuid.uuid4().int)
