"""The suite of events and the stream's rules for a record never say different things, for rows and payloads at random."""

import math
import string
from datetime import timedelta

import orjson
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.app.fields import fields_of
from stillpoint.clock import MINUTE, SECOND, from_micros
from stillpoint.events.parsing import ParsedEvent
from stillpoint.events.recorded import events_table
from stillpoint.events.types import Category, EventType, Platform, Verdict
from stillpoint.messages import Kind
from tests.support.wellness import APP, EVENT_COLUMNS, PARSER, parse
from validation.expectations import validate
from validation.stream_rules import stream_refusals
from validation.suites import REFUSED_BY_STREAM, event_suite

ARRIVED = 1_767_225_600 * SECOND
SUITE = event_suite(APP.events)
MAX_ITEMS, MAX_STEPS = 200, 1_000_000
NAMES = st.text(string.ascii_lowercase + "ä ☾\t", min_size=0, max_size=5)
GOOD = {
    "event_id": st.uuids().map(str),
    "user_id": st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64),
    "platform": st.sampled_from([str(one) for one in Platform]),
    "screen": st.just("home"),
    "query": st.just("deep sleep"),
    "play_id": st.just("p1"),
    "content_id": st.just("c1"),
    "category": st.sampled_from([str(one) for one in Category]),
    "position_seconds": st.floats(0, 7_200),
    "heart_rate_bpm": st.floats(25, 250),
    "steps": st.integers(0, MAX_STEPS),
    "recommendation_id": st.just("r1"),
    "kind": st.sampled_from([str(one) for one in Kind]),
    "items": st.lists(st.just("c1"), min_size=1, max_size=3),
    "surface": st.just("home"),
}
NUMBERS = st.sampled_from([-1.0, -0.0, 0.0, 24.9, 25.0, 250.0, 250.1, math.inf, -math.inf, math.nan, 1e308, None])
WORDS = st.one_of(
    st.none(), NAMES, st.sampled_from(["", "sleep", "SLEEP", "today", "ios", "x" * 129, "x" * 201, "\x00"])
)
ODD = {
    "event_id": st.one_of(WORDS, st.uuids().map(lambda one: str(one).upper()), st.uuids().map(lambda one: one.hex)),
    "user_id": st.one_of(WORDS, st.sampled_from(["u1", "u 1", "x" * 65, "u1\n"])),
    "position_seconds": NUMBERS,
    "heart_rate_bpm": NUMBERS,
    "steps": st.sampled_from([None, -1, 0, MAX_STEPS, MAX_STEPS + 1]),
    "items": st.one_of(
        st.none(), st.lists(NAMES, max_size=3), st.just(["c1"] * MAX_ITEMS), st.just(["c1"] * (MAX_ITEMS + 1))
    ),
    "type": st.sampled_from([*map(str, EventType), "sleepwalk", "", None]),
    "ahead": st.sampled_from([-ARRIVED, -ARRIVED - 1, -MINUTE, 0, MINUTE, MINUTE + 1, 30 * MINUTE]),
}


@st.composite
def documents(draw):
    """What a client might send: an event of any type, in which up to two fields are then anything that their column holds."""
    kind = draw(st.sampled_from(APP.events))
    row = {name: draw(values) for name, values in GOOD.items() if name in fields_of(kind)}
    row |= {"type": kind.type_name, "ahead": 0}
    for name in draw(st.lists(st.sampled_from([*GOOD, "type", "ahead"]), max_size=2)):
        row[name] = draw(ODD.get(name, WORDS))
    return {name: value for name, value in row.items() if value is not None}


def payload(document):
    """Return a document as a client's bytes, and numbers that JSON has no word for as Python writes them."""
    moment = from_micros(ARRIVED) + timedelta(microseconds=document["ahead"])
    sent = {name: value for name, value in document.items() if name != "ahead"}
    text = orjson.dumps(sent | {"schema_version": 1, "event_timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")})
    for name in ("position_seconds", "heart_rate_bpm"):
        if name in sent and not math.isfinite(sent[name]):
            text = text.replace(f'"{name}":null'.encode(), f'"{name}":NaN'.encode())
    return text


def stored(documents):
    """Return documents as rows of `events/`, whatever they hold: what a writer without rules would have left there."""
    rows = []
    for number, document in enumerate(documents):
        row = dict.fromkeys(EVENT_COLUMNS.names) | {name: document[name] for name in document if name != "ahead"}
        times = {"event_timestamp": ARRIVED + document["ahead"], "arrived_at": ARRIVED}
        rows.append(row | times | {"verdict": str(Verdict.ON_TIME), "shard": "s0", "sequence": str(number)})
    anything = pa.schema([field.with_nullable(True) for field in EVENT_COLUMNS])
    return pa.Table.from_pylist(rows, schema=anything)


def writes(document):
    """Say whether the stream would leave exactly this row: fields that the event's type does not have are dropped before."""
    event = parse(payload(document), ARRIVED)
    if not isinstance(event, ParsedEvent) or event.arrival.event_id != document["event_id"]:
        return False
    known = event.arrival.event
    return all(name in ("ahead", "type") or getattr(known, name, None) is not None for name in document)


def cheap(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@cheap(400)
@given(documents())
def test_the_rule_for_a_row_is_what_the_stream_says_of_its_payload(document):
    (refusal,) = stream_refusals(stored([document]), PARSER)
    assert (refusal is None) == writes(document), refusal


@cheap(8)
@given(st.lists(documents(), min_size=1, max_size=40))
def test_rows_break_the_suite_if_and_only_if_the_stream_would_not_have_written_them(sent):
    written = [writes(document) for document in sent]
    table = stored(sent)
    outcome = validate(SUITE, [table], at=from_micros(ARRIVED))
    (rule,) = [one for one in outcome.findings if one.column == REFUSED_BY_STREAM]
    assert rule.unexpected == written.count(False), rule.examples
    assert outcome.passed == all(written), [one.sentence() for one in outcome.failures()]
    if not all(written) and any(written):
        only = validate(SUITE, [table.filter(pa.array(written))], at=from_micros(ARRIVED))
        assert only.passed, [one.sentence() for one in only.failures()]


@cheap(5)
@given(st.lists(documents(), min_size=10, max_size=60))
def test_whatever_the_stream_takes_and_writes_meets_the_suite(sent):
    events = [parse(payload(document), ARRIVED) for document in sent]
    taken = [event.arrival for event in events if isinstance(event, ParsedEvent)]
    places = [str(number) for number in range(len(taken))]
    table = events_table(EVENT_COLUMNS, taken, [Verdict.ON_TIME] * len(taken), ["s0"] * len(taken), places)
    outcome = validate(SUITE, [table], at=from_micros(ARRIVED))
    assert outcome.passed == bool(taken), [one.sentence() for one in outcome.failures()]
