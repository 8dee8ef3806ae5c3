"""The handler answers SQS with exactly the messages that must come back, under the generation of the moment."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inference.lambda_handler import WarmFunction
from inference.live.loaded_release import LoadedRelease, load, with_fresh_contents
from inference.live.renewal import Renewal
from inference.predictions.stored_recommendations import Recommendations, StoreResult
from inference.worker.jobs import JobReport, Jobs, QueuedMessage
from stillpoint.catalogue import change_token, notify_change, withdraw
from stillpoint.errors import StackUnavailable
from stillpoint.events.types import EventType
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind, PredictionRequest, request_id
from stillpoint.releases.pointer_copy import PointerCopy
from stillpoint.settings import Settings
from tests.support.hand_made import HandMade, hand_made
from tests.support.wellness import FEATURES

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Host:
    """A function over a real Redis and a folder lake, warm between invocations as Lambda keeps it."""

    server: Any

    def __init__(self, made: HandMade) -> None:
        self.made = made
        self.loads: list[tuple[str, int]] = []
        self.reports: list[JobReport] = []
        self.buried: list[str] = []
        self.renewed: list[str] = []
        self.copy = PointerCopy(made.client, made.book, made.lake.root)
        self.recommendations = Recommendations(made.client, fence=self.copy.key)
        self.function = WarmFunction(
            self.copy.live,
            self.load,
            self.jobs,
            clock=lambda: NOW,
            forward=self.reports.append,
            bury=self.bury,
            renew=self.renew,
        )

    def load(self, release_id: str, generation: int, now: datetime) -> LoadedRelease:
        self.loads.append((release_id, generation))
        return load(self.made.book, self.made.lake, self.made.settings, release_id, generation, now=now)

    def switch(self) -> None:
        """Do what a switch does for functions, up to its acknowledgement."""
        self.made.point()
        self.copy.renew()

    def jobs(self, still_live: Any) -> Jobs:
        return Jobs(
            self.recommendations,
            send_push=lambda push: None,
            may_receive=lambda user: False,
            clock=lambda: NOW,
            still_live=lambda loaded: True,
        )

    def bury(self, messages: Sequence[QueuedMessage], reasons: Mapping[str, str]) -> list[QueuedMessage]:
        last = [one for one in messages if one.receives >= 5 and one.receipt in reasons]
        self.buried += [one.receipt for one in last]
        return last

    def renew(self, messages: Sequence[QueuedMessage], put_off: Mapping[str, str]) -> list[QueuedMessage]:
        last = [one for one in messages if one.receives >= 5 and one.receipt in put_off]
        self.renewed += [one.receipt for one in last]
        return last

    def invoke(self, *bodies: str, receives: int = 1) -> list[str]:
        records = [
            {"messageId": f"m{n}", "body": body, "attributes": {"ApproximateReceiveCount": str(receives)}}
            for n, body in enumerate(bodies)
        ]
        return [one["itemIdentifier"] for one in self.function({"Records": records})["batchItemFailures"]]


def body(user: str) -> str:
    made = PredictionRequest(
        request_id=request_id(user, Kind.TODAY),
        user_id=user,
        kind=Kind.TODAY,
        event_id=user,
        event_type=EventType.SEARCH,
        event_timestamp=NOW,
        arrived_at=NOW,
        enqueued_at=NOW,
    )
    return made.to_bytes().decode()


@pytest.fixture
def host(tmp_path: Path, redis_factory: Any) -> Host:
    server = redis_factory()
    connection = server.connection_string
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    redis = dict.fromkeys(("redis_green", "redis_blue", "redis_serving"), connection)
    made = hand_made(
        lake,
        Settings(_env_file=None, home=tmp_path, lake=lake.root, **redis),  # type: ignore[arg-type]
        project="stillpoint_handmade",
    )
    host = Host(made)
    host.server = server
    return host


def test_without_a_live_release_the_whole_batch_comes_back_and_at_the_last_receive_it_is_sent_again(host: Host) -> None:
    assert host.invoke(body("u1"), body("u2")) == ["m0", "m1"]
    assert host.invoke(body("u1"), "poison", receives=5) == []
    assert (host.buried, host.renewed) == ([], ["m0", "m1"])


def test_an_outage_buries_nothing_however_often_a_message_was_received(host: Host, redis_factory: Any) -> None:
    host.switch()
    host.invoke(body("u0"))
    host.server.client().replicaof("127.0.0.1", redis_factory().port)
    assert host.invoke(body("u1"), "poison", receives=4) == ["m0", "m1"]
    assert host.invoke(body("u1"), "poison", receives=5) == []
    assert (host.buried, host.renewed) == ([], ["m0", "m1"])
    host.server.client().replicaof("NO", "ONE")
    assert host.invoke(body("u1")) == []
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001")[0] is not None


def test_only_what_failed_comes_back_and_at_the_last_receive_it_is_a_dead_letter(host: Host) -> None:
    host.switch()
    assert host.invoke(body("u1"), "poison", body("u2")) == ["m1"]
    assert host.invoke(body("u1"), "poison", receives=5) == []
    assert host.buried == ["m1"]
    assert all(host.recommendations.get(user, [Kind.TODAY], "r0001")[0] for user in ("u1", "u2"))


def test_each_invocation_works_under_the_generation_of_the_moment_and_loads_a_release_once(host: Host) -> None:
    host.switch()
    host.invoke(body("u1"))
    host.invoke(body("u2"))
    host.switch()
    host.invoke(body("u3"))
    assert host.loads == [("r0001", 1), ("r0001", 2)]
    assert [made.generation for report in host.reports for made in report.predictions] == [1, 1, 2]


def test_what_was_ranked_while_the_release_was_switched_comes_back_and_is_done_under_the_next(host: Host) -> None:
    host.switch()
    switched = iter([True])
    clock = host.function._clock

    def switch_meanwhile() -> datetime:
        if next(switched, False):
            host.switch()
        return clock()

    host.function._jobs._clock = switch_meanwhile
    assert host.invoke(body("u1")) == ["m0"]
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]
    assert host.invoke(body("u1")) == []
    (held,) = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    assert held is not None
    assert held.generation == 2


def test_a_warm_function_follows_a_withdrawal(host: Host, redis_factory: Any) -> None:
    seen: list[LoadedRelease] = []
    client = host.made.client
    host.switch()
    host.function = WarmFunction(
        host.copy.live,
        host.load,
        host.jobs,
        clock=lambda: NOW,
        forward=host.reports.append,
        refresh=lambda loaded, now: seen.append(loaded) or with_fresh_contents(loaded, host.made.lake, now=now),
        renewal=Renewal(lambda: change_token(client), seconds=300, monotonic=lambda: 0.0),
    )
    assert host.invoke(body("u1")) == []
    (first,) = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    assert first is not None
    best = first.items[0].content_id
    withdraw(host.made.lake, best, at=NOW)
    notify_change(client)
    assert host.invoke(body("u2")) == []
    assert len(seen) == 1
    (second,) = host.recommendations.get("u2", [Kind.TODAY], "r0001")
    assert second is not None
    assert best not in [item.content_id for item in second.items]
    assert host.invoke(body("u3")) == []
    assert len(seen) == 1


def test_what_was_served_and_could_not_be_kept_brings_all_of_its_requests_back(host: Host) -> None:
    host.switch()

    def away(report: JobReport) -> None:
        raise StackUnavailable("the queue is away")

    keep, host.function._forward = host.function._forward, away
    soon: list[str] = []
    host.function._hasten = lambda messages: soon.extend(one.receipt for one in messages)
    assert host.invoke(body("u1"), "poison", body("u2")) == ["m0", "m1", "m2"]
    assert soon == ["m0", "m1", "m2"]
    host.function._forward = keep
    assert host.invoke(body("u1"), body("u2")) == []
    assert [one.task.user_id for report in host.reports for one in report.predictions] == ["u1", "u2"]


def test_a_write_depends_on_the_live_generation_in_the_same_step_and_without_it_is_taken_back(host: Host) -> None:
    host.switch()
    host.invoke(body("u1"))
    (held,) = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    assert held is not None
    host.recommendations.forget("u1", Kind.TODAY, "r0001")
    host.switch()
    assert host.recommendations.put(held) is StoreResult.SUPERSEDED
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]
    unfenced = Recommendations(host.made.client)
    assert unfenced.put(held) is StoreResult.STORED
    other = held.model_copy(update={"generation": held.generation + 1, "request_id": "f" * 32})
    unfenced.take_back([other])
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [held]
    unfenced.take_back([held])
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]


def test_on_a_cluster_a_switch_between_two_looks_takes_back_what_was_stored(host: Host) -> None:
    host.switch()
    answers = iter([True, False])
    host.function = WarmFunction(
        host.copy.live,
        host.load,
        lambda still_live: Jobs(
            Recommendations(host.made.client),
            send_push=lambda push: None,
            may_receive=lambda user: False,
            clock=lambda: NOW,
            still_live=lambda loaded: next(answers),
        ),
        clock=lambda: NOW,
        forward=host.reports.append,
    )
    assert host.invoke(body("u1")) == ["m0"]
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]
