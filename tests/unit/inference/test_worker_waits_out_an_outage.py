"""An outage costs a prediction request none of its receives."""

import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from inference.worker import loop as module
from inference.worker.dead_letters import DeadLetters
from inference.worker.jobs import JobReport, QueuedMessage
from inference.worker.loop import Worker
from stillpoint.events.types import EventType
from stillpoint.messages import Kind, PredictionRequest, later_version

NOW = datetime(2026, 3, 1, tzinfo=UTC)
KEPT = timedelta(days=4)
LIMIT = 5


def body(user: str, *, ago: timedelta = timedelta(minutes=1)) -> str:
    at = NOW - ago
    return PredictionRequest(
        request_id="0" * 32,
        user_id=user,
        kind=Kind.TODAY,
        event_id=user,
        event_type=EventType.SEARCH,
        event_timestamp=at,
        arrived_at=at,
        enqueued_at=at,
    ).model_dump_json()


class Queue:
    """What SQS does of a queue with dead letters, without a clock: a received message stays invisible."""

    def __init__(self, *bodies: str, receives: int = 0) -> None:
        self.waiting = [(text, receives) for text in bodies]
        self.held: dict[str, tuple[str, int]] = {}
        self.sent: dict[str, list[Any]] = {"queue": [], "dead": []}
        self.calls: Counter[str] = Counter()
        self.extended: Counter[str] = Counter()
        self.beat = threading.Event()
        self.away = False

    def get_queue_url(self, **asked: Any) -> Any:
        return {"QueueUrl": asked["QueueName"]}

    def get_queue_attributes(self, **_: Any) -> Any:
        policy = f'{{"deadLetterTargetArn": "arn:aws:sqs:x:0:dead", "maxReceiveCount": "{LIMIT}"}}'
        return {"Attributes": {"RedrivePolicy": policy, "MessageRetentionPeriod": str(int(KEPT.total_seconds()))}}

    def receive_message(self, **_: Any) -> Any:
        self.calls["receive"] += 1
        if self.away:
            raise EndpointConnectionError(endpoint_url="http://queue")
        taken, self.waiting = self.waiting[:10], self.waiting[10:]
        found = []
        for text, receives in taken:
            self.calls["message"] += 1
            receipt = f"receipt {self.calls['message']}"
            self.held[receipt] = (text, receives + 1)
            attributes = {"ApproximateReceiveCount": str(receives + 1)}
            found.append({"ReceiptHandle": receipt, "Body": text, "Attributes": attributes})
        return {"Messages": found} if found else {}

    def change_message_visibility_batch(self, **asked: Any) -> Any:
        entries = asked["Entries"]
        assert len(entries) <= 10
        self.extended.update(one["ReceiptHandle"] for one in entries)
        if self.held and all(self.extended[receipt] >= 3 for receipt in self.held):
            self.beat.set()

    def delete_message_batch(self, **asked: Any) -> Any:
        entries = asked["Entries"]
        assert len(entries) <= 10
        for one in entries:
            del self.held[one["ReceiptHandle"]]

    def send_message_batch(self, **asked: Any) -> Any:
        entries = asked["Entries"]
        self.sent[asked["QueueUrl"]] += entries
        return {"Successful": [{"Id": one["Id"]} for one in entries]}


class Work:
    """Jobs that meet an outage until `back` is set; what is no request fails."""

    def __init__(self) -> None:
        self.back = threading.Event()
        self.met = threading.Event()
        self.done: list[str] = []

    def run(self, loaded: Any, messages: Sequence[QueuedMessage]) -> JobReport:
        report = JobReport()
        for one in messages:
            if later_version(one.body) is not None:
                report.left[one.receipt] = "of a later version"
            elif not one.body.startswith("{"):
                report.failed[one.receipt] = "no request"
            elif self.back.is_set():
                report.done += 1
                self.done.append(one.receipt)
            else:
                report.put_off[one.receipt] = "Redis is a read-only replica"
                self.met.set()
        return report


class Running:
    def __init__(self, queue: Queue, work: Work) -> None:
        self.reports: list[JobReport] = []
        self.worker = Worker(
            queue,  # type: ignore[arg-type]
            "queue",
            work,  # type: ignore[arg-type]
            SimpleNamespace(current=object()),  # type: ignore[arg-type]
            on_report=self._reported,
            clock=lambda: NOW,
        )
        self.reported = threading.Event()
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()

    def _reported(self, report: JobReport) -> None:
        self.reports.append(report)
        self.reported.set()

    def stop(self) -> None:
        self.worker.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.05)


def test_in_an_outage_nothing_more_is_received_and_what_was_is_kept_until_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, work = Queue(*[body(f"u{n}") for n in range(45)], receives=LIMIT - 1), Work()
    running = Running(queue, work)
    assert queue.beat.wait(20), "what was received ahead was not kept invisible"
    assert (queue.calls["receive"], len(queue.held), len(queue.waiting)) == (2, 20, 25)
    assert caplog.messages == ["prediction requests wait: Redis is a read-only replica"]
    work.back.set()
    assert running.reported.wait(20)
    running.stop()
    assert queue.sent == {"queue": [], "dead": []}
    assert (set(queue.held), len(work.done)) == (set(), len(set(work.done)))
    assert len(work.done) + len(queue.waiting) == 45
    assert [report.failed for report in running.reports if report.failed] == []
    assert "prediction requests wait: over, after 0 s" in caplog.messages


def test_a_stop_in_an_outage_sends_what_is_at_its_last_receive_again_and_leaves_the_rest() -> None:
    queue, work = Queue(body("u1"), body("u2", ago=KEPT), receives=LIMIT - 1), Work()
    queue.waiting.append((body("u3"), 0))
    running = Running(queue, work)
    assert work.met.wait(20)
    running.stop()
    assert [one["MessageBody"] for one in queue.sent["queue"]] == [body("u1")]
    assert queue.sent["dead"] == []
    assert sorted(text for text, _ in queue.held.values()) == sorted([body("u2", ago=KEPT), body("u3")])


def test_what_fails_for_good_beside_an_outage_is_buried_once() -> None:
    queue, work = Queue("poison", body("u1"), receives=LIMIT - 1), Work()
    running = Running(queue, work)
    assert work.met.wait(20)
    assert queue.sent["dead"] == []
    work.back.set()
    assert running.reported.wait(20)
    running.stop()
    assert [one["MessageBody"] for one in queue.sent["dead"]] == ["poison"]
    assert queue.held == {}


def test_a_request_of_a_later_version_is_given_back_and_sent_again_at_its_last_receive_until_it_is_too_old() -> None:
    def later(user: str, ago: timedelta) -> str:
        return body(user, ago=ago).replace('"schema_version":1', '"schema_version":2')

    young, old = later("u1", timedelta(hours=1)), later("u2", KEPT)
    queue, work = Queue(young, old, receives=LIMIT - 1), Work()
    queue.waiting += [(later("u3", timedelta()), 0), (body("u4"), 0)]
    work.back.set()
    running = Running(queue, work)
    assert running.reported.wait(20)
    running.stop()
    assert [one["MessageBody"] for one in queue.sent["queue"]] == [young]
    assert queue.sent["dead"] == []
    assert sorted(text for text, _ in queue.held.values()) == sorted([old, later("u3", timedelta())])
    assert len(work.done) == 1


def test_a_queue_that_is_away_is_told_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    queue, work = Queue(body("u1")), Work()
    work.back.set()
    queue.away = True
    running = Running(queue, work)
    while queue.calls["receive"] < 4:
        assert running.thread.is_alive()
        threading.Event().wait(0.005)
    queue.away = False
    assert running.reported.wait(20)
    running.stop()
    waits = [text for text in caplog.messages if "prediction requests wait" in text]
    assert len(waits) == 2
    assert "AWS cannot be reached" in waits[0]
    assert caplog.records[0].exc_info is None


def test_renewed_requests_keep_their_body_and_wait_a_moment() -> None:
    queue = Queue()
    letters = DeadLetters(queue, "queue")  # type: ignore[arg-type]
    last = [QueuedMessage(f"r{n}", body(f"u{n}"), receives=LIMIT) for n in range(12)]
    early = QueuedMessage("early", body("u"), receives=LIMIT - 1)
    sent = letters.renew([*last, early], {one.receipt: "away" for one in (*last, early)}, now=NOW)
    assert sent == last
    assert [(one["MessageBody"], one["DelaySeconds"]) for one in queue.sent["queue"]] == [
        (one.body, 15) for one in last
    ]
