"""Prediction requests are worked off once, by the live release, and pushed to those who want it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from botocore.exceptions import EndpointConnectionError

from inference.live.loaded_release import LoadedRelease, load_live
from inference.predictions.predict import ALIKE, Guard, Source
from inference.predictions.stored_recommendations import PUSH_INTERVAL_SECONDS, Recommendations, StoreResult
from inference.ranking.rank import ScoreRequest
from inference.ranking.scorers import InProcessScorer
from inference.worker.jobs import JobReport, Jobs, QueuedMessage
from inference.worker.push_consent import opted_in as read_opted_in
from stillpoint.clock import to_micros
from stillpoint.events.types import EventType
from stillpoint.experiments import Arm, Experiment, Ordering
from stillpoint.finished import add_finished
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Kind, PredictionRequest, Push, request_id
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, axis, hand_made, opted_in
from tests.support.wellness import BIOMETRICS, FEATURES, SEARCH_EMBEDDINGS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Host:
    """A Jobs with everything around it, on a real Redis and a folder lake."""

    server: RedisServer

    def __init__(self, made: HandMade) -> None:
        self.made = made
        self.pushes: list[Push] = []
        self.recommendations = Recommendations(made.client)
        self.loaded: LoadedRelease = load_live(made.book, made.lake, made.settings, now=NOW)
        self.users = read_opted_in(made.lake)
        self.fail_push: Exception | None = None
        self.jobs = self.build(Guard())

    def build(
        self,
        guard: Guard,
        still_live: bool = True,
        is_erased: Callable[[str, int], bool] = lambda user, at: False,
        experiment: Experiment = ALIKE,
    ) -> Jobs:
        return Jobs(
            self.recommendations,
            send_push=self.send,
            may_receive=self.users.__contains__,
            clock=lambda: NOW,
            guard=guard,
            experiment=experiment,
            still_live=lambda loaded: still_live,
            erased=lambda moments: [is_erased(*moment) for moment in moments],
        )

    def send(self, push: Push) -> None:
        if self.fail_push is not None:
            raise self.fail_push
        self.pushes.append(push)

    def ask(self, *requests: PredictionRequest) -> JobReport:
        return self.jobs.run(self.loaded, [QueuedMessage(r.request_id, r.to_bytes().decode()) for r in requests])


def request(
    user: str = "u1", kind: Kind = Kind.TODAY, *, ago: float = 1.0, type: EventType = EventType.SEARCH, event: str = "e"
) -> PredictionRequest:
    at = NOW - timedelta(seconds=ago)
    return PredictionRequest(
        request_id=request_id(f"{event}{ago}", kind),
        user_id=user,
        kind=kind,
        event_id=event,
        event_type=type,
        event_timestamp=at,
        arrived_at=at,
        enqueued_at=at,
    )


@pytest.fixture
def host(tmp_path: Path, redis_factory) -> Iterator[Host]:  # type: ignore[no-untyped-def]
    server: RedisServer = redis_factory()
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    opted_in(lake, {"u1": True, "u2": False})
    connection = server.connection_string
    settings = Settings(
        _env_file=None,
        home=tmp_path,
        lake=lake.root,
        redis_green=connection,
        redis_blue=connection,
        redis_serving=connection,
    )
    made = hand_made(lake, settings, project="stillpoint_handmade")
    made.point()
    host = Host(made)
    host.server = server
    return host


def test_a_search_raises_what_was_searched_for(host: Host) -> None:
    values = {"search_embedding": axis("focus"), "search_count_24h": 1}
    host.made.row(SEARCH_EMBEDDINGS, "u1", NOW - timedelta(minutes=1), values)
    assert host.ask(request()).done == 1
    (held,) = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    assert held is not None
    assert [item.category for item in held.items][:4] == ["focus"] * 4
    assert (held.generation, held.mapping_version) == (1, 1)


def test_a_search_past_its_time_to_live_is_not_used(host: Host) -> None:
    values = {"search_embedding": axis("focus"), "search_count_24h": 1}
    host.made.row(SEARCH_EMBEDDINGS, "u1", NOW - timedelta(hours=25), values)
    stale = host.ask(request()).predictions[0]
    fresh = host.ask(request("u1")).predictions[0]
    assert stale.items == fresh.items
    assert {view["view"]: view["status"] for view in stale.user.views}["search_embeddings"] == "OUTSIDE_MAX_AGE"


def test_rising_exertion_raises_move_content(host: Host) -> None:
    host.made.row(BIOMETRICS, "u1", NOW - timedelta(seconds=30), {"exertion_rising": True})
    report = host.ask(request(kind=Kind.NEXT, type=EventType.BIOMETRIC))
    assert report.predictions[0].items[0].category == "move"
    assert len(report.predictions[0].items) == 1
    assert [(push.channel, push.user_id) for push in host.pushes] == [("modal", "u1")]


def test_a_request_of_any_kind_after_any_event_is_done_and_only_a_trigger_pushes(host: Host) -> None:
    for kind in Kind:
        for type in EventType:
            host.made.client.delete("stillpoint:pushed:u1")
            host.pushes.clear()
            report = host.ask(request(kind=kind, type=type, event=f"{kind}-{type}"))
            assert (report.done, report.failed) == (1, {}), (kind, type)
            pushes = type in (EventType.SEARCH, EventType.BIOMETRIC, EventType.CONTENT_COMPLETE) and kind is Kind.NEXT
            assert len(host.pushes) == pushes, (kind, type)


def test_the_newest_wins_whatever_the_order_and_a_second_delivery_changes_nothing(host: Host) -> None:
    new, old = request(ago=1), request(ago=60)
    host.ask(new)
    first = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    host.ask(old)
    host.ask(new)
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == first
    assert first[0] is not None
    assert first[0].request_id == new.request_id


def test_jobs_of_one_user_and_kind_in_a_batch_are_one(host: Host) -> None:
    report = host.ask(request(ago=3), request(ago=1), request(ago=2), request(kind=Kind.SLEEP))
    assert (report.done, report.coalesced, report.failed) == (2, 2, {})


def test_a_message_that_is_none_is_given_back_alone_with_its_reason(host: Host) -> None:
    good = request()
    messages = [QueuedMessage("bad", '{"schema_version": 2}'), QueuedMessage("good", good.to_bytes().decode())]
    report = host.jobs.run(host.loaded, messages)
    assert report.done == 1
    assert list(report.failed) == ["bad"]
    assert "schema_version" in report.failed["bad"]


def test_a_request_of_a_later_version_is_left_to_a_later_program_and_one_of_no_version_has_failed(host: Host) -> None:
    text = request().to_bytes().decode()
    later = text.replace('"schema_version":1', '"schema_version":2').replace('"user_id":', '"subject":')
    older, worded = (text.replace('"schema_version":1', f'"schema_version":{other}') for other in ("0", '"2"'))
    messages = [QueuedMessage(name, one) for name, one in (("2", later), ("1", text), ("0", older), ("worded", worded))]
    report = host.jobs.run(host.loaded, messages)
    assert (report.done, list(report.failed), report.put_off) == (1, ["0", "worded"], {})
    assert report.left == {"2": "a prediction request of version 2; this process knows 1 and leaves it to a later one"}
    assert list(report.waiting) == ["2"]


def test_what_was_just_finished_is_not_recommended(host: Host) -> None:
    best = host.ask(request()).predictions[0].items[0].content_id
    add_finished(host.made.client, [("u1", best, 1)])
    assert best not in [item.content_id for item in host.ask(request(ago=0.5)).predictions[0].items]


def test_without_a_subscription_only_short_content_is_recommended(host: Host) -> None:
    host.made.user("free", subscribed=False)
    items = host.ask(request("free")).predictions[0].items
    longer = {f"c{n:04d}" for n in range(60) if n // 6 % 3 == 2}
    assert items
    assert not longer & {item.content_id for item in items}


def test_sleep_lists_hold_sleep_and_music_only(host: Host) -> None:
    items = host.ask(request(kind=Kind.SLEEP)).predictions[0].items
    assert {item.category for item in items} <= {"sleep", "music"}
    assert len(items) == 10


def test_a_user_is_pushed_to_once_per_half_hour_and_the_same_push_may_be_repeated(host: Host) -> None:
    first = request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE)
    assert host.ask(first).pushed == 1
    assert host.ask(first).pushed == 1
    assert host.ask(request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE, ago=0.2)).pushed == 0
    assert len({push.push_id for push in host.pushes}) == 1


def test_who_opted_out_or_is_unknown_is_never_pushed_to(host: Host) -> None:
    for user in ("u2", "u3", "nobody"):
        assert host.ask(request(user, Kind.NEXT, type=EventType.CONTENT_COMPLETE)).pushed == 0
    assert host.pushes == []


def test_a_push_that_cannot_be_sent_comes_back_and_does_not_use_up_the_half_hour(host: Host) -> None:
    job = request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE)
    for trouble in (ValueError("no push"), EndpointConnectionError(endpoint_url="http://queue")):
        host.fail_push = trouble
        assert list(host.ask(job).not_done) == [job.request_id]
    host.fail_push = None
    assert host.ask(job).pushed == 1


def test_a_push_that_met_an_outage_is_put_off_and_one_that_is_refused_has_failed(host: Host) -> None:
    job = request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE)
    host.fail_push = EndpointConnectionError(endpoint_url="http://queue")
    away = host.ask(job)
    host.fail_push = ValueError("no push")
    refused = host.ask(job)
    assert (list(away.failed), list(away.put_off)) == ([], [job.request_id])
    assert (list(refused.failed), list(refused.put_off)) == ([job.request_id], [])


def _read_only(server: RedisServer, other: RedisServer) -> None:
    server.client().replicaof("127.0.0.1", other.port)


def _full(server: RedisServer, other: RedisServer) -> None:
    server.client().config_set("maxmemory-policy", "noeviction")
    server.client().config_set("maxmemory", "1")


def _without_replicas(server: RedisServer, other: RedisServer) -> None:
    server.client().config_set("min-replicas-to-write", "1")


def _locked(server: RedisServer, other: RedisServer) -> None:
    server.client().config_set("requirepass", "new-word")
    connect(f"{server.connection_string},password=new-word").client_kill_filter(_type="normal", skipme=True)


def _gone(server: RedisServer, other: RedisServer) -> None:
    server.stop()


@pytest.mark.parametrize("trouble", [_read_only, _full, _without_replicas, _locked, _gone])
def test_no_trouble_of_redis_counts_against_a_request_or_against_a_malformed_one_beside_it(
    host: Host, redis_factory: Callable[[], RedisServer], trouble: Callable[[RedisServer, RedisServer], None]
) -> None:
    trouble(host.server, redis_factory())
    jobs = [request("u1"), request("u2", event="f"), request("u3", Kind.SLEEP, event="g")]
    messages = [QueuedMessage(r.request_id, r.to_bytes().decode()) for r in jobs]
    report = host.jobs.run(host.loaded, [*messages, QueuedMessage("bad", "{}")])
    assert set(report.put_off) == {job.request_id for job in jobs}
    assert list(report.failed) == ["bad"]
    assert report.done == 0


@pytest.mark.parametrize(("version", "complete"), [(2, True), (1, False)])
def test_a_fill_marker_of_another_mapping_or_of_a_fill_gives_popular_content(
    host: Host, version: int, complete: bool
) -> None:
    host.made.fill_marker(version, complete=complete)
    made = host.ask(request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE)).predictions[0]
    assert made.source is Source.FALLBACK
    assert made.refusal is not None
    assert host.pushes == []


def test_a_users_row_of_another_mapping_gives_popular_content_and_without_the_guard_another_users(host: Host) -> None:
    from stillpoint.app.feature_set import USER_SEQUENCE
    from stillpoint.clock import to_micros

    right = host.ask(request("u4")).predictions[0]
    us = to_micros(NOW)
    host.made.write(USER_SEQUENCE, [("u4", us, us, 9, 2)])
    guarded = host.ask(request("u4")).predictions[0]
    host.jobs = host.build(Guard(on=False))
    unguarded = host.ask(request("u4")).predictions[0]
    assert guarded.source is Source.FALLBACK
    assert unguarded.source is Source.MODEL
    assert [i.content_id for i in unguarded.items] != [i.content_id for i in right.items]


def test_a_user_who_is_new_to_the_mapping_is_ranked_without_the_collaborative_score(host: Host) -> None:
    host.made.user("new")
    made = host.ask(request("new")).predictions[0]
    assert made.source is Source.MODEL
    assert made.user.sequence_id is None


def test_what_was_ranked_under_a_generation_that_ended_is_not_stored(host: Host) -> None:
    host.jobs = host.build(Guard(), still_live=False)
    assert "no longer live" in next(iter(host.ask(request()).put_off.values()))
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]


def test_a_request_of_an_erased_user_is_a_no_op(host: Host) -> None:
    host.jobs = host.build(Guard(), is_erased=lambda user, at_us: user == "u1" and at_us <= to_micros(NOW))
    report = host.ask(request("u1"), request("u2", event="f"))
    assert (report.erased, report.done, report.failed) == (1, 1, {})
    assert [made.task.user_id for made in report.predictions] == ["u2"]
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]


def test_what_was_stored_while_the_user_was_erased_is_taken_back(host: Host) -> None:
    answers = iter([False, True])
    host.jobs = host.build(Guard(), is_erased=lambda user, at_us: next(answers))
    report = host.ask(request("u1"))
    assert (report.erased, report.predictions, report.failed) == (1, [], {})
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]


def test_nobody_is_pushed_to_on_an_opt_in_from_before_an_erasure(host: Host) -> None:
    event = request("u1", Kind.NEXT, type=EventType.CONTENT_COMPLETE)
    erased_at = to_micros(event.event_timestamp) - 1
    host.jobs = host.build(Guard(), is_erased=lambda user, at_us: at_us <= erased_at)
    report = host.ask(event)
    assert (report.done, report.pushed, host.pushes) == (1, 0, [])


def test_a_late_writer_of_an_ended_generation_overwrites_nothing(host: Host) -> None:
    late = host.loaded
    host.made.point()
    host.made.point()  # away, and back to the same release by a rollback
    back = load_live(host.made.book, host.made.lake, host.made.settings, now=NOW)
    assert (late.id, late.generation, back.generation) == (back.id, 1, 3)
    host.loaded = back
    host.ask(request(ago=60))
    first = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    host.loaded = late
    report = host.ask(request(ago=1))
    assert "no longer live" in next(iter(report.put_off.values()))
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == first
    host.loaded = back
    assert host.ask(request(ago=1)).done == 1
    (held,) = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    assert held is not None
    assert (held.generation, held.request_id) == (3, request(ago=1).request_id)


def test_an_older_event_under_a_new_generation_keeps_the_newest_and_locks_the_old_generation_out(host: Host) -> None:
    host.ask(request(ago=5))
    (newest,) = host.recommendations.get("u1", [Kind.TODAY], "r0001")
    assert newest is not None
    older = newest.model_copy(update={"generation": 3, "event_timestamp": NOW - timedelta(seconds=60)})
    newer = newest.model_copy(update={"event_timestamp": NOW})
    assert host.recommendations.put_all([older, newer]) == [StoreResult.OLDER, StoreResult.SUPERSEDED]
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [newest]
    assert host.recommendations.put(newer.model_copy(update={"generation": 3})) is StoreResult.STORED


def test_an_arm_that_orders_by_popularity_gets_its_baseline_and_is_pushed_to_alike(host: Host) -> None:
    everybody = Experiment(arms=(Arm(name="popular", share=1, ordering=Ordering.POPULAR),))
    host.jobs = host.build(Guard(), experiment=everybody)
    made = host.ask(request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE)).predictions[0]
    assert (made.arm, made.source, made.refusal) == ("popular", Source.BASELINE, None)
    assert made.items[0].content_id == host.made.bundle.manifest.popular[0]
    assert [push.content_id for push in host.pushes] == [made.items[0].content_id]


def test_a_user_whose_stored_features_are_damaged_costs_only_their_own_request(host: Host) -> None:
    key = next(iter(host.made.client.scan_iter(match=b"*u3*stillpoint_handmade")))
    field = next(name for name in host.made.client.hkeys(key) if len(name) == 4)
    host.made.client.hset(key, field, b"\xff\xff\xff")
    report = host.ask(request("u1"), request("u3", event="f"), request("u4", event="g"))
    assert (report.done, list(report.failed)) == (2, [request("u3", event="f").request_id])


def test_a_push_expires_half_an_hour_after_its_event_and_is_not_sent_later(host: Host) -> None:
    fresh = request(kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE, ago=60)
    assert host.ask(fresh).pushed == 1
    assert host.pushes[0].expires_at == fresh.event_timestamp + timedelta(seconds=PUSH_INTERVAL_SECONDS)
    redriven = request("u1", kind=Kind.NEXT, type=EventType.CONTENT_COMPLETE, ago=1801)
    host.made.client.delete("stillpoint:pushed:u1")
    assert (host.ask(redriven).pushed, len(host.pushes)) == (0, 1)


@pytest.mark.parametrize(
    ("type", "channel", "reason"),
    [
        (EventType.SEARCH, "modal", "you searched for sleep"),
        (EventType.BIOMETRIC, "modal", "you are on the move"),
        (EventType.CONTENT_COMPLETE, "push", "you finished a session"),
    ],
)
def test_what_asked_for_it_decides_between_a_modal_and_a_push(
    host: Host, type: EventType, channel: str, reason: str
) -> None:
    host.ask(request(kind=Kind.NEXT, type=type))
    assert [(push.channel, push.reason) for push in host.pushes] == [(channel, reason)]


def test_a_batch_of_many_users_is_one_model_call_per_kind_and_gives_each_the_list_of_a_batch_of_one(
    host: Host,
) -> None:
    calls: list[int] = []
    score = InProcessScorer.score

    def counted(scorer: InProcessScorer, asked: Sequence[ScoreRequest]) -> list[np.ndarray]:
        calls.append(len(asked))
        return score(scorer, asked)

    requests = [request(f"u{n}", kind, event=f"e{n}") for n in range(6) for kind in (Kind.TODAY, Kind.SLEEP)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InProcessScorer, "score", counted)
        together = host.ask(*requests)
    assert (together.done, calls) == (12, [6, 6])
    alone = [host.ask(one).predictions[0] for one in requests]
    assert [one.items for one in together.predictions] == [one.items for one in alone]
    assert all(
        np.array_equal(one.ranking.scores, other.ranking.scores)
        for one, other in zip(together.predictions, alone, strict=True)
    )


def test_whom_the_model_refuses_is_the_only_one_of_a_batch_to_get_popular_content(host: Host) -> None:
    host.made.user("u99", sequence_id=10_000)
    report = host.ask(request("u1", event="a"), request("u99", event="b"), request("u2", event="c"))
    assert report.done == 3
    assert [one.source for one in report.predictions] == [Source.MODEL, Source.FALLBACK, Source.MODEL]
    assert "comes from another mapping" in str(report.predictions[1].refusal)


@pytest.mark.parametrize("field", ["event_timestamp", "arrived_at", "enqueued_at"])
def test_a_request_of_the_future_has_failed_and_blocks_nothing_for_its_user(host: Host, field: str) -> None:
    far = datetime(9999, 1, 1, tzinfo=UTC)
    wrong = request("u1", event="far").model_copy(update={field: far})
    report = host.ask(wrong, request("u2"))
    assert report.done == 1
    assert report.failed == {
        wrong.request_id: f"{field} is 9999-01-01T00:00:00+00:00, which lies in the future; it is 2026-11-21T12:00:00Z"
    }
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") == [None]
    assert host.ask(request("u1")).done == 1
    assert host.recommendations.get("u1", [Kind.TODAY], "r0001") != [None]
    ahead = request("u3").model_copy(update={field: NOW + timedelta(seconds=60)})
    assert host.ask(ahead).done == 1  # as far as clocks differ
