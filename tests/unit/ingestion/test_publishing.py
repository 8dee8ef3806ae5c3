"""Do events reach Kinesis and requests the queue, in order where it counts and whole, when calls fail in part?"""

import json
from datetime import UTC, datetime

import pytest

from ingestion.publish import read_events, rebase, user_of
from ingestion.request_queue import RequestQueue
from stillpoint.errors import InvalidInput, StackUnavailable
from stillpoint.events import stream as event_stream
from stillpoint.events.stream import put_events


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


def test_rebasing_shifts_all_times_by_one_span_and_leaves_the_rest():
    newest = datetime(2026, 5, 1, tzinfo=UTC)
    payloads = [
        json.dumps({"event_timestamp": "2026-03-01T10:00:00+00:00", "x": 1}).encode(),
        b"rubbish",
        json.dumps({"event_timestamp": "2026-03-01T12:00:00+02:00"}).encode(),
        json.dumps({"event_timestamp": "2026-03-01T11:30:00.000001Z"}).encode(),
    ]
    shifted = rebase(payloads, newest=newest)
    times = [json.loads(p).get("event_timestamp") for p in (shifted[0], shifted[2], shifted[3])]
    assert times == [
        "2026-04-30T22:29:59.999999+00:00",
        "2026-05-01T00:29:59.999999+02:00",  # the same instant, still written with the phone's own offset
        "2026-05-01T00:00:00.000000+00:00",
    ]
    assert shifted[1] == b"rubbish"
    assert json.loads(shifted[0])["x"] == 1


def test_a_missing_file_is_said_in_words(tmp_path):
    with pytest.raises(InvalidInput, match=r"there is no file .*; `stillpoint events simulate` makes one"):
        list(read_events(tmp_path / "none"))


def test_what_cannot_be_read_still_gets_a_partition_key():
    assert user_of(b'{"user_id": "u7"}') == "u7"
    for payload in (b"", b"{", b"[]", b'{"user_id": 7}', b'{"user_id": ""}'):
        assert user_of(payload) == "unknown"
