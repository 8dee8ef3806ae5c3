"""An event is judged alike over HTTP and on the stream, whatever it is, and none changes another's verdict."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inference.http.event_intake import MAX_EVENTS, events_in, sort_events
from inference.http.json_parts import NotCut, Parts
from inference.http.problems import Problem
from ingestion.compute import parse_records
from ingestion.kinesis_shards import Record
from stillpoint.clock import SECOND
from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import ParsedEvent
from tests.support.wellness import PARSER, parse

ARRIVED = 1_767_225_600 * SECOND
LINES = (Path(__file__).parents[1] / "golden" / "events_v1.jsonl").read_bytes().splitlines()
GOOD = LINES[0]
SEARCH = next(line for line in LINES if b'"search"' in line)
STEPS = json.dumps({**json.loads(GOOD), "type": "biometric", "steps": "STEPS"}).encode()


def nested(depth, opening=b"[", closing=b"]"):
    return GOOD[:-1] + b',"extra":' + opening * depth + b"1" + closing * depth + b"}"


TELLING = [
    SEARCH.replace(b'"query":"', b'"query":"\\ud83d '),
    SEARCH.replace(b'"query":"', b'"query":"\\ud83d\\ude00 '),
    SEARCH.replace(b'"query":"', b'"query":"\\\\\\" ]},{[ '),
    GOOD[:-1] + b',"\\ud800":1}',
    GOOD[:-1] + b',"extra":"\xff"}',
    GOOD[:-1] + b',"type":"login"}',
    GOOD[:-1] + b',"user\\u005fid":"u2"}',
    GOOD[:-1] + b',"events":[1,2]}',
    GOOD[:-1] + b',"extra":NaN}',
    GOOD[:-1] + b',"extra":1e999}',
    GOOD[:-1] + b',"extra":01}',
    GOOD[:-1] + b",}",
    GOOD[:-1] + b',"extra":"' + b"x" * 70_000 + b'"}',
    b" \n\t".join([b"", GOOD, b""]),
    *(nested(depth) for depth in (250, 254, 260, 1_020, 1_023, 1_024, 5_000)),
    nested(300, b'{"a":', b"}"),
    *(STEPS.replace(b'"STEPS"', text) for text in (b"12", b"12.0", b"1.2e1", b"12.5", b"-0.0", b"1e400", b"9" * 400)),
    b"null",
    b"[]",
    b'"text"',
    b"nonsense",
    b"{]",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8),  # with halves of surrogate pairs
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw):
    """Return an event with a field changed or added, doubled maybe, as a client's serializer would write it."""
    document = json.loads(draw(st.sampled_from(LINES)))
    field = draw(st.sampled_from([*document, "extra", "events", "query", "steps"]))
    text = json.dumps({**document, field: draw(VALUES)}, indent=draw(st.sampled_from([None, 1])))
    if draw(st.booleans()):
        text = text[:-1] + f", {json.dumps(draw(st.sampled_from([field, 'other'])))}: {json.dumps(draw(VALUES))}}}"
    return text.encode()


EVENTS = (
    st.sampled_from(LINES) | st.sampled_from(TELLING) | changed() | VALUES.map(lambda one: json.dumps(one).encode())
)


def on_the_stream(payload):
    """Return what the stream makes of a record."""
    event = parse(payload, ARRIVED)
    key = event.arrival.user_id if isinstance(event, ParsedEvent) else "u1"
    users, refused = parse_records([Record("shard", "1", key, ARRIVED, payload)], PARSER)
    if users:
        return "accepted", key
    (one,) = refused
    return "rejected", one.field, one.reason


def over_http(body):
    """Return what HTTP makes of each event of a body, and what it puts on the stream or aside."""
    found = sort_events(events_in(body), ARRIVED, PARSER)
    accepted, rejected = iter(found.accepted), iter(found.rejected)
    verdicts, kept = [], []
    for result in found.results:
        user_or_payload = next(accepted if result["status"] == "accepted" else rejected)
        if result["status"] == "accepted":
            verdicts.append(("accepted", user_or_payload[0]))
            kept.append(user_or_payload[1])
        else:
            verdicts.append(("rejected", result["field"], result["reason"]))
            kept.append(user_or_payload[0])
    return verdicts, kept


def judged(body):
    """Return what HTTP makes of a body, or the problem that it answers."""
    try:
        return over_http(body)
    except Problem as problem:
        return problem


@given(
    events=st.lists(EVENTS, min_size=1, max_size=6),
    blank=st.sampled_from([b"", b" ", b"\n\t"]),
    name=st.sampled_from([b'"events"', b'"\\u0065vents"']),
)
@example(events=TELLING, blank=b" ", name=b'"events"')
def test_each_event_of_a_batch_gets_the_verdict_that_the_stream_gives_its_bytes(events, blank, name):
    body = blank.join([b"{", name, b":", b"[", (blank + b"," + blank).join(events), b"]", b"}"])
    verdicts, kept = over_http(body)
    payloads = [event.strip(b" \t\r\n") for event in events]
    assert kept == payloads, "both doors keep the client's very bytes"
    assert verdicts == [on_the_stream(payload) for payload in payloads]


@given(event=EVENTS)
def test_an_event_alone_is_judged_as_in_a_batch_or_the_body_is_refused(event):
    found = judged(event)
    if isinstance(found, Problem):
        assert found.status in (400, 422)
        assert isinstance(parse(event, ARRIVED), MalformedEvent) or b"vents" in event
    else:
        assert found[0] == [on_the_stream(event.strip(b" \t\r\n"))]


@given(body=st.binary(max_size=60) | st.lists(st.sampled_from(b'{}[]",:\\ea1 '), max_size=40).map(bytes))
@example(body=b"[" * 100_000)
@example(body=b"{" + b'"":1,' * 20_000 + b'"":1}')
@example(body=b'{"events":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
def test_any_bytes_are_taken_or_refused_and_never_more(body):
    found = judged(body)
    assert not isinstance(found, Problem) or found.status in (400, 422)


def plain_elements(text):
    """Return the elements of an array, letter by letter: obviously right, and slow."""
    parts, depth, quoted, escaped, start = [], 0, False, False, 1
    for place, letter in enumerate(text):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = letter == ord("\\"), letter != ord('"')
        elif letter == ord('"'):
            quoted = True
        elif letter in b"[{":
            depth += 1
        elif letter in b"]}":
            depth -= 1
        elif letter == ord(",") and depth == 1:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:-1].strip()] if text[1:-1].strip() else []


@given(values=st.lists(VALUES, max_size=5), indent=st.sampled_from([None, 0, 2]))
def test_an_array_is_cut_where_a_plain_reader_cuts_it(values, indent):
    text = json.dumps(values, indent=indent).encode()
    assert list(Parts(text).elements()) == plain_elements(text)
    again = [json.loads(part) for part in Parts(text).elements()]
    assert json.dumps(again) == json.dumps(values)


@given(document=st.dictionaries(st.text(st.characters(codec=None), max_size=5), VALUES, max_size=4))
def test_an_object_is_cut_into_its_names_and_values(document):
    text = json.dumps(document).encode()
    again = {json.loads(name): json.loads(value) for name, value in Parts(text).members()}
    assert json.dumps(again) == json.dumps(document)


@pytest.mark.parametrize("text", [b"", b"[", b'["]', b"[}{]", b"[1]]", b"{}{}", b"[1] [2]", b"1", b'"a"'])
def test_what_nobody_can_cut_is_not_cut(text):
    with pytest.raises(NotCut):
        Parts(text)


@pytest.mark.parametrize(
    ("body", "status", "field", "text"),
    [
        (b"nonsense", 400, "body", "not JSON"),
        (b'{"events":[{]}', 400, "body", "not JSON"),
        (b"{1,2}", 400, "body", "not JSON"),
        (b"[" + GOOD + b"]", 422, "body", "a JSON object"),
        (b"12", 422, "body", "a JSON object"),
        (b'{"events":[]}', 422, "events", "1 to 500"),
        (b'{"events":{}}', 422, "events", "1 to 500"),
        (b'{"events":[' + b",".join([b"{}"] * (MAX_EVENTS + 1)) + b"]}", 422, "events", "1 to 500"),
        (b'{"events":[' + GOOD + b'],"sent_at":1}', 422, "events", "'sent_at' stands beside it"),
        (b'{"events":[' + GOOD + b'],"events":[]}', 422, "events", "another `events` stands beside it"),
        (GOOD[:-1] + b',"events":[]}', 422, "events", "stands beside it"),
    ],
)
def test_a_body_that_is_no_list_of_events_is_refused_whole(body, status, field, text):
    with pytest.raises(Problem) as caught:
        events_in(body)
    assert (caught.value.status, caught.value.field) == (status, field)
    assert text in caught.value.detail


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"\xf3\x89\x9a\xc2" + b"\x0a\x02u1" * 30_000, "aggregate of the Kinesis Producer Library"),
        (gzip.compress(GOOD), "gzip"),
        (b"\x78\x9c\x03\x00", "zlib"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd"),
        (b"\xef\xbb\xbf" + GOOD, "byte order mark"),
        (GOOD.decode().encode("utf-16"), "UTF-16"),
        (GOOD.decode().encode("utf-16-le"), "UTF-16"),
    ],
)
def test_records_of_other_formats_are_kept_aside_by_their_name(payload, name):
    found = parse(payload, ARRIVED)
    assert isinstance(found, MalformedEvent)
    assert name in found.reason
    assert "expected" in found.reason
