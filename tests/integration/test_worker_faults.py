"""Every job is done once, or in the dead letters with its reason, when workers die, servers restart and models misbehave."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

import inference.ranking.sagemaker_scorer
import inference.worker.loop
from inference.predictions.stored_recommendations import Recommendations
from inference.worker.entry import create_worker
from stillpoint.events.types import EventType
from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.messages import Kind, PredictionRequest, request_id
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, contents, hand_made, model, opted_in
from tests.support.model_endpoint import Endpoint

VISIBILITY = 1
RUN = "from inference.cli import worker; worker()"


class World:
    """Queues of the stand-in with a short visibility timeout, a live release, and workers."""

    def __init__(self, settings: Settings, lake: Lake, aws: AwsServer, project: str, endpoint: str | None) -> None:
        self.redis: Any = None
        self.now = datetime.now(UTC)
        self.settings, self.lake = settings, lake
        provision(settings)
        opted_in(lake, {"u1": True})
        self.made: HandMade = hand_made(lake, settings, project=project, endpoint=endpoint)
        self.made.point()
        self.sqs: Any = aws.client("sqs")
        self.queue, self.dead, self.pushes = (
            self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
            for name in (settings.prediction_queue, settings.prediction_dead_letters, settings.push_queue)
        )
        self.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"VisibilityTimeout": str(VISIBILITY)})
        self.recommendations = Recommendations(connect(settings.redis_serving.get_secret_value()))
        self._running: list[tuple[Any, threading.Thread, Callable[[], None]]] = []

    def request(
        self, user: str, kind: Kind = Kind.TODAY, *, ago: float = 1.0, type: EventType = EventType.SEARCH
    ) -> PredictionRequest:
        at = self.now - timedelta(seconds=ago)
        event = f"{user}-{ago}"
        return PredictionRequest(
            request_id=request_id(event, kind),
            user_id=user,
            kind=kind,
            event_id=event,
            event_type=type,
            event_timestamp=at,
            arrived_at=at,
            enqueued_at=at,
        )

    def send(self, *bodies: PredictionRequest | str) -> None:
        texts = [one if isinstance(one, str) else one.to_bytes().decode() for one in bodies]
        for start in range(0, len(texts), 10):
            entries = [{"Id": str(n), "MessageBody": text} for n, text in enumerate(texts[start : start + 10])]
            self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)

    def work(self) -> Any:
        """Start a worker in this process, and return the events of its SQS client."""
        worker, close = create_worker(self.settings)
        thread = threading.Thread(target=worker.run)
        thread.start()
        self._running.append((worker, thread, close))
        return worker._client.meta.events

    def rest(self) -> None:
        """Stop the workers, gracefully."""
        for worker, _, _ in self._running:
            worker.stop()
        for _, thread, close in self._running:
            thread.join(20)
            close()
        self._running.clear()

    def drained(self) -> bool:
        """Say whether nothing waits and nothing is under way."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names) == 0

    def held(self, user: str, kind: Kind = Kind.TODAY) -> Any:
        return self.recommendations.get(user, [kind], "r0001")[0]

    def received(self, url: str) -> list[dict[str, Any]]:
        """Take all messages off a queue."""
        found: list[dict[str, Any]] = []
        while True:
            messages = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
            if not messages.get("Messages"):
                return found
            for one in messages["Messages"]:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
                found.append(one)

    def served(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.lake.read("served").to_pylist()
        return rows


def until(true: Callable[[], Any], what: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


Worlds = Callable[..., World]


@pytest.fixture
def worlds(settings: Settings, s3_lake: Lake, aws: AwsServer, unique: str, redis_factory: Any) -> Iterator[Worlds]:
    made: list[World] = []

    def make(endpoint: str | None = None, **changes: Any) -> World:
        server = redis_factory({"appendonly": "yes"})
        own = dict.fromkeys(("redis_green", "redis_blue", "redis_serving"), SecretStr(server.connection_string))
        world = World(settings.model_copy(update=own | changes), s3_lake, aws, f"stillpoint_{unique}", endpoint)
        world.redis = server
        made.append(world)
        return world

    yield make
    for world in made:
        world.rest()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(model([one[0] for one in contents()]))
    yield server
    server.stop()


def environment(settings: Settings) -> dict[str, str]:
    values = {f"STILLPOINT_{name.upper()}": str(value) for name, value in settings if value is not None}
    for name in ("redis_green", "redis_blue", "redis_serving", "redis_state", "redis_sandbox", "erasure_key"):
        values[f"STILLPOINT_{name.upper()}"] = getattr(settings, name).get_secret_value()
    return os.environ | values


def test_a_job_of_a_worker_that_is_killed_is_done_by_another_and_stored_once(
    worlds: Worlds, endpoint: Endpoint
) -> None:
    world = worlds("ranker", sagemaker_endpoint_url=endpoint.url)
    endpoint.mood = "hangs"
    world.send(world.request("u1", Kind.NEXT, type=EventType.CONTENT_COMPLETE))
    first = subprocess.Popen([sys.executable, "-c", RUN], env=environment(world.settings))
    try:
        assert endpoint.called.wait(120), "the worker never asked the model"
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert world.held("u1", Kind.NEXT) is None
    endpoint.mood = "right"
    world.work()
    until(world.drained, "the message came back and was done")
    world.rest()
    assert world.held("u1", Kind.NEXT).request_id == request_id("u1-1.0", Kind.NEXT)
    assert len({json.loads(one["Body"])["push_id"] for one in world.received(world.pushes)}) == 1
    assert [(row["user_id"], row["source"]) for row in world.served()] == [("u1", "model")]
    assert world.received(world.dead) == []


def test_a_redis_that_is_away_for_longer_than_all_receives_costs_no_job(
    worlds: Worlds, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []
    world = worlds()
    monkeypatch.setattr(inference.worker.loop, "HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr(inference.worker.loop, "VISIBILITY_SECONDS", VISIBILITY)
    world.work().register("before-call.sqs.ChangeMessageVisibilityBatch", lambda **call: beats.append(1))
    world.send(*[world.request(f"u{n}") for n in range(10)])
    until(world.drained, "the first jobs were done")
    world.redis.stop()
    beats.clear()
    world.send(*[world.request(f"u{n}", Kind.SLEEP) for n in range(10)])
    until(lambda: len(beats) * 0.3 > 7 * VISIBILITY, "the outage was longer than five times the visibility timeout")
    assert not world.drained()
    world.redis.restart()
    until(world.drained, "the jobs of the outage were done")
    world.rest()
    assert all(world.held(f"u{n}", kind) for n in range(10) for kind in (Kind.TODAY, Kind.SLEEP))
    assert world.received(world.dead) == []
    told = [text for text in caplog.messages if "prediction requests wait" in text]
    assert len(told) == 2, "one line when it began, one when it ended"
    assert not any(record.exc_info for record in caplog.records if record.name == "inference.worker.loop")


@pytest.mark.parametrize("mood", ["hangs", "fails", "garbage", "too few", "not finite"])
def test_a_model_that_misbehaves_gives_popular_contents_and_recovers_by_itself(
    worlds: Worlds, endpoint: Endpoint, mood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.ranking.sagemaker_scorer, "REST_SECONDS", 0.5)
    world = worlds("ranker", sagemaker_endpoint_url=endpoint.url)
    world.work()
    endpoint.mood = mood
    for n in range(6):  # each a batch of its own, with a call of its own
        world.send(world.request(f"u{n}"))
        until(world.drained, "the job was done in spite of the model")
    asked = endpoint.calls
    assert asked < 12, "the circuit never opened"
    endpoint.mood = "right"
    time.sleep(0.6)
    world.send(*[world.request(f"u{n}", ago=0.5) for n in range(6)])
    until(world.drained, "the jobs were done by the model")
    world.rest()
    assert asked < endpoint.calls <= asked + 6
    by_request = {row["request_id"]: (row["source"], row["items"]) for row in world.served()}
    fallen = [by_request[world.request(f"u{n}").request_id] for n in range(6)]
    assert [source for source, _ in fallen] == ["fallback"] * 6
    assert fallen[0][1] == list(world.made.bundle.manifest.popular[:1]) + fallen[0][1][1:]
    assert [by_request[world.request(f"u{n}", ago=0.5).request_id][0] for n in range(6)] == ["model"] * 6


def test_messages_that_come_twice_and_out_of_order_leave_the_newest_and_one_push(worlds: Worlds) -> None:
    world = worlds()
    jobs = [
        world.request("u1", Kind.NEXT, ago=ago, type=EventType.CONTENT_COMPLETE) for ago in (1, 3, 2, 1, 5, 4, 3, 1)
    ]
    for one in jobs:
        world.send(one)
    world.work()
    world.work()
    until(world.drained, "all were done")
    world.send(*reversed(jobs))
    until(world.drained, "all were done again")
    world.rest()
    assert world.held("u1", Kind.NEXT).request_id == jobs[0].request_id
    assert len({json.loads(one["Body"])["push_id"] for one in world.received(world.pushes)}) == 1


def test_a_poison_message_lies_in_the_dead_letters_with_its_reason_and_can_be_redriven(
    worlds: Worlds,
) -> None:
    world = worlds()
    good = world.request("u1")
    poison = good.to_bytes().decode().replace('"schema_version":1', '"schema_version":0')
    world.send(poison, world.request("u2"))
    world.work()
    until(world.drained, "the poison left the queue")
    assert world.held("u2") is not None
    (dead,) = world.received(world.dead)
    attributes = {name: one["StringValue"] for name, one in dead["MessageAttributes"].items()}
    assert dead["Body"] == poison
    assert attributes == {
        "reason": "not a prediction request of version 1: schema_version: Input should be 1",
        "receives": "5",
    }
    world.send(dead["Body"].replace('"schema_version":0', '"schema_version":1'))  # mended, and sent again
    until(lambda: world.held("u1"), "the redriven request was done")
    assert world.held("u1").request_id == good.request_id


def test_a_request_that_ends_the_process_each_time_is_moved_by_the_queue_itself(worlds: Worlds) -> None:
    world = worlds()
    world.send(world.request("u1"))
    for _ in range(5):
        assert world.sqs.receive_message(QueueUrl=world.queue, VisibilityTimeout=0)["Messages"]
    assert "Messages" not in world.sqs.receive_message(QueueUrl=world.queue)
    (dead,) = world.received(world.dead)
    assert "MessageAttributes" not in dead


def burst(world: World, count: int) -> None:
    for round_ in range(0, count, 100):
        world.send(
            *[world.request(f"u{n % 20}", list(Kind)[n % 2], ago=1 + n / 1_000) for n in range(round_, round_ + 100)]
        )


@pytest.mark.parametrize("count", [400, pytest.param(10_000, marks=pytest.mark.soak)])
def test_a_burst_is_worked_off_and_then_a_request_is_as_quick_as_before(worlds: Worlds, count: int) -> None:
    world = worlds()
    world.work()
    until(lambda: world.held("u1") or not world.send(world.request("u1", ago=9_000)), "the worker is up")
    burst(world, count)
    until(world.drained, "the burst is done", 30 + count / 50)
    began = time.monotonic()
    last = world.request("u1", ago=0.1)
    world.send(last)
    until(lambda: world.held("u1").request_id == last.request_id, "a request after the burst", 5)
    assert time.monotonic() - began < 5
    world.rest()
    assert all(world.held(f"u{n}", list(Kind)[n % 2]) for n in range(20))
    assert world.received(world.dead) == []


def test_a_graceful_stop_amid_a_burst_leaves_nothing_half_done_and_nothing_under_way(worlds: Worlds) -> None:
    world = worlds()
    burst(world, 300)
    world.work()
    until(lambda: world.held("u0"), "the first batches are done")
    world.rest()
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = world.sqs.get_queue_attributes(QueueUrl=world.queue, AttributeNames=names)["Attributes"]
    assert int(found["ApproximateNumberOfMessages"]) > 0, "the stop came too late to show anything"
    assert int(found["ApproximateNumberOfMessagesNotVisible"]) == 0
    assert len({row["recommendation_id"] for row in world.served()}) == len(world.served())
    world.work()
    until(world.drained, "another worker does the rest")
    world.rest()
    assert world.received(world.dead) == []
