"""Events reach Kinesis and requests the queue, in order where it counts and whole, when calls fail in part."""

import gzip
import json
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingestion.publish import judge, read_lines, user_of
from ingestion.request_queue import RequestQueue
from stillpoint.cli import run
from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput, StackUnavailable
from stillpoint.events import stream as event_stream
from stillpoint.events.stream import put_events
from tests.support.wellness import PARSER, parse


class Kinesis:
    """Refuses the records that `refuse` names, each as often as it says."""

    def __init__(self, refuse):
        self.refuse, self.accepted = dict(refuse), []

    def put_records(self, *, StreamName, Records):  # noqa: N803
        answers = []
        for record in Records:
            left = self.refuse.get(record["Data"], 0)
            self.refuse[record["Data"]] = left - 1
            if left <= 0:
                self.accepted.append((record["PartitionKey"], record["Data"]))
            answers.append({"ErrorCode": "ProvisionedThroughputExceededException"} if left > 0 else {})
        return {"FailedRecordCount": sum(bool(answer) for answer in answers), "Records": answers}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(event_stream.time, "sleep", lambda seconds: None)


def test_what_is_refused_is_sent_again_and_the_first_copies_keep_each_users_order():
    sent = [("a", b"a1"), ("b", b"b1"), ("a", b"a2"), ("b", b"b2"), ("a", b"a3")]
    kinesis = Kinesis({b"a2": 2, b"b1": 1})
    put_events(kinesis, "s", sent)
    for user in "ab":
        last = {data: place for place, (key, data) in enumerate(kinesis.accepted) if key == user}
        assert sorted(last, key=last.get) == [data for key, data in sent if key == user]


def test_an_endless_refusal_says_how_many_were_not_accepted():
    with pytest.raises(StackUnavailable, match="stream s refused 1 events 8 times"):
        put_events(Kinesis({b"x": 99}), "s", [("a", b"x"), ("b", b"y")])


def test_no_call_carries_more_than_kinesis_takes():
    sent = [(f"user-{number}", b"%06d" % number + bytes(50_000)) for number in range(250)] + [("u", b"x")] * 501
    kinesis = Kinesis({})
    calls, put = [], kinesis.put_records
    kinesis.put_records = lambda **given: calls.append(given["Records"]) or put(**given)
    assert put_events(kinesis, "s", sent) == len(calls) == 4
    assert kinesis.accepted == sent
    for records in calls:
        assert len(records) <= 500
        assert sum(len(one["Data"]) + len(one["PartitionKey"]) for one in records) <= 5 * 2**20


class Queue:
    def __init__(self, refusals):
        self.refusals, self.accepted = refusals, []

    def get_queue_url(self, *, QueueName):  # noqa: N803
        return {"QueueUrl": QueueName}

    def send_message_batch(self, *, QueueUrl, Entries):  # noqa: N803
        assert len(Entries) <= 10
        failed = []
        for entry in Entries:
            if self.refusals > 0 and entry["Id"] == "3":
                self.refusals -= 1
                failed.append({"Id": "3"})
            else:
                self.accepted.append(entry["MessageBody"])
        return {"Failed": failed}


def test_requests_are_sent_whole_although_calls_fail_in_part():
    queue = Queue(refusals=2)
    bodies = [f"request {number}" for number in range(37)]
    RequestQueue(queue, "q").send(bodies)
    assert sorted(queue.accepted) == sorted(bodies)


def test_a_queue_that_keeps_refusing_is_named(monkeypatch):
    with pytest.raises(StackUnavailable, match="queue q refused 1 prediction requests 6 times"):
        RequestQueue(Queue(refusals=99), "q").send([str(number) for number in range(5)])


NOW = datetime(2026, 5, 1, tzinfo=UTC)


def event(at="2026-04-30T10:00:00Z", **more):
    document = {"schema_version": 1, "event_id": str(uuid.uuid4()), "type": "login", "user_id": "u1",
                "event_timestamp": at, "platform": "ios", **more}  # fmt: skip
    return json.dumps(document).encode()


def judged(tmp_path, *lines, rebase=False, pack=bytes):
    path = tmp_path / "events.jsonl"
    path.write_bytes(pack(b"\n".join(lines)))
    return judge(read_lines(path), PARSER, now=NOW, rebase=rebase)


def test_rebasing_shifts_all_times_by_one_span_and_leaves_the_rest(tmp_path):
    found = judged(
        tmp_path,
        event("2026-03-01T10:00:00+00:00", user_id="u2"),
        event("2026-03-01T12:00:00+02:00"),
        event("2026-03-01t11:30:00.000001z"),
        rebase=True,
    )
    assert [json.loads(line.payload)["event_timestamp"] for line in found.events] == [
        "2026-04-30T22:29:59.999999+00:00",
        "2026-05-01T00:29:59.999999+02:00",  # the same instant, still written with the phone's own offset
        "2026-05-01T00:00:00.000000+00:00",
    ]
    assert [line.user for line in found.events] == ["u2", "u1", "u1"]


def test_a_time_of_the_year_9999_is_refused_and_pushes_nobody_into_the_past(tmp_path):
    found = judged(tmp_path, event("9999-12-31T23:59:59Z"), event("2026-04-01T00:00:00Z"), rebase=True)
    assert [one.sentence()[:24] for one in found.refused] == ["line 1: event_timestamp:"]
    assert json.loads(found.events[0].payload)["event_timestamp"] == "2026-05-01T00:00:00.000000+00:00"


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_each_line_is_judged_as_the_stream_judges_it_and_its_bytes_are_kept(tmp_path, pack):
    lines = [event(), b"", b"a,b,c", event(platform="fridge"), b"\xff\xfe", event(query="\u00e9"), b"[1]"]
    found = judged(tmp_path, *lines, pack=pack)
    assert [(line.number, line.payload) for line in found.events] == [(1, lines[0]), (6, lines[5])]
    assert [one.line.number for one in found.refused] == [3, 4, 5, 7]
    for one in found.refused:
        expected = parse(one.line.payload, to_micros(NOW))
        assert (one.field, one.reason) == (expected.field, expected.reason)


@pytest.mark.parametrize("length", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_a_line_that_kinesis_would_not_take_is_refused_and_the_next_one_is_read(tmp_path, length):
    found = judged(tmp_path, b'"' + b"x" * (length - 2) + b'"', event())
    assert [line.number for line in found.events] == [2]
    assert found.refused[0].line.cut == (length > 2**20)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:40], lambda data: data[:20] + b"\0" * 9 + data[29:]]
)
def test_a_damaged_gzip_file_is_named_and_nothing_of_it_is_taken(tmp_path, damage):
    with pytest.raises(InvalidInput, match=r"events.jsonl is damaged after line \d+: .*; nothing of it was published"):
        judged(tmp_path, *(event() for _ in range(50)), pack=lambda data: damage(gzip.compress(data)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
@example(data=b"\x1f\x8b")
@example(data=b'{"event_timestamp": "0001-01-01T00:00:00+14:00"}')
def test_any_bytes_are_events_refused_lines_or_a_damaged_file(tmp_path, data):
    try:
        found = judged(tmp_path, data, rebase=True)
    except InvalidInput:
        return
    assert not found.events
    for one in found.refused:
        assert one.reason
        assert user_of(one.line.payload)


@pytest.fixture
def kinesis(monkeypatch, tmp_path):
    stream = Kinesis({})
    monkeypatch.setattr("ingestion.cli._client", lambda settings, service: stream)
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    return stream


def publish(capsys, path, *more):
    code = run(["events", "publish", str(path), "--json", *more])
    shown = capsys.readouterr()
    return code, json.loads(shown.out) if shown.out else shown.err


def test_what_is_refused_is_told_by_line_and_the_rest_is_published(kinesis, tmp_path, capsys):
    now = datetime.now(UTC).isoformat()
    good, bad = [event(now, user_id="a"), event(now, user_id="b")], event(now, platform="fridge", user_id="c")
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join([good[0], bad, good[1]]))
    code, told = publish(capsys, path)
    assert (code, told["published"], told["refused"]) == (1, 2, 1)
    assert (told["reasons"][0]["line"], told["reasons"][0]["field"]) == (2, "platform")
    assert kinesis.accepted == [("a", good[0]), ("b", good[1])]
    kinesis.accepted.clear()
    code, told = publish(capsys, path, "--with-refused")
    assert (code, told["published"], told["refused"]) == (0, 3, 1)
    assert kinesis.accepted == [("a", good[0]), ("c", bad), ("b", good[1])]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", json.dumps({"type": "login"}, indent=1), "\u2028"])
def test_a_file_of_another_format_is_one_sentence_and_publishes_nothing(kinesis, tmp_path, capsys, text):
    path = tmp_path / "events.csv"
    path.write_text(text)
    code, told = publish(capsys, path)
    assert code == 1
    assert "is an event, and nothing was published; line 1: " in told
    assert told.count("\n") == 1
    assert kinesis.accepted == []


def test_an_empty_file_publishes_nothing(kinesis, tmp_path, capsys):
    (tmp_path / "empty").write_text("\n\n")
    assert publish(capsys, tmp_path / "empty") == (0, {"published": 0, "refused": 0, "reasons": []})


def test_a_missing_file_is_said_in_words(tmp_path):
    with pytest.raises(InvalidInput, match=r"there is no file .*; `stillpoint events simulate` makes one"):
        list(read_lines(tmp_path / "none"))


def test_what_cannot_be_read_still_gets_a_partition_key():
    assert user_of(b'{"user_id": "u7"}') == "u7"
    for payload in (b"", b"{", b"[]", b'{"user_id": 7}', b'{"user_id": ""}'):
        assert user_of(payload) == "unknown"
