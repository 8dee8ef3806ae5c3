"""The whole receiver, on real Kinesis, Spark, Redis and S3, agrees with the oracle."""

import json
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from ingestion.backfill import backfill
from ingestion.kinesis_shards import ShardReader
from ingestion.supervisor import Supervisor
from stillpoint.clock import system_clock
from stillpoint.errors import LeaseHeld
from stillpoint.events.stream import put_events
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.datasets import ALL_DATES, feature_dataset, newest_rows
from stillpoint.lake.tables import Lake
from stillpoint.local.provision import provision
from stillpoint.messages import PredictionRequest
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, read_acknowledged, write_control
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.values.times import decode_time
from tests.support.fuzzed_payloads import Fuzz
from tests.support.stream_world import streaming, wait_for
from tests.support.wellness import APP, FEATURES, STREAMED_VIEWS

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.timeout(3600)]


def payload(user: str, kind: str, happened: datetime, **fields: Any) -> tuple[str, bytes]:
    document = {
        "schema_version": 1,
        "event_id": str(uuid.uuid4()),
        "user_id": user,
        "type": kind,
        "event_timestamp": happened.isoformat(),
        "platform": "ios",
        **fields,
    }
    return user, json.dumps(document).encode()


def a_morning(user: str, now: datetime) -> list[tuple[str, bytes]]:
    """Return one user's events: a search, an abandoned story, a walk; one late, one double, one malformed, one fast."""
    story = {"play_id": f"p-{user}", "content_id": "c1", "category": "sleep"}
    events = [
        payload(user, "search", now - timedelta(seconds=50), query="preparing for big exam"),
        payload(user, "content_start", now - timedelta(seconds=40), **story),
        payload(user, "content_exit", now - timedelta(seconds=30), **story, position_seconds=10),
        *(
            payload(
                user,
                "biometric",
                now - timedelta(minutes=9 - i),
                heart_rate_bpm=70 + 15 * max(0, i - 5),
                steps=60 * (i > 5),
            )
            for i in range(9)
        ),
        payload(user, "login", now - timedelta(minutes=20)),
        payload(user, "login", now + timedelta(seconds=50)),
        payload(user, "login", now + timedelta(minutes=9)),
        (user, b'{"not": "an event"}'),
    ]
    return [*events, events[0]]


def test_events_reach_both_places_once_and_ask_for_predictions(settings: Settings, aws: Any) -> None:
    provision(settings)
    lake = open_lake(settings)
    views = tuple(view.name for view in STREAMED_VIEWS)
    projects = {Colour.GREEN: f"g_{uuid.uuid4().hex[:6]}", Colour.BLUE: f"b_{uuid.uuid4().hex[:6]}"}
    write_control(lake.objects, tuple(Target(colour=c, project=p, views=views) for c, p in projects.items()))
    users = [f"user-{number}" for number in range(20)]
    with streaming(settings) as (_, reports):
        # What happened is asked about only while it is fresh, however long Spark takes to begin.
        put_events(aws.client("kinesis"), settings.event_stream, [("nobody", b"{")])
        wait_for(lambda: sum(report.records for report in reports) == 1, "the first record")
        now = datetime.now(UTC)
        sent = [event for user in users for event in a_morning(user, now)]
        put_events(aws.client("kinesis"), settings.event_stream, sent)
        wait_for(lambda: sum(report.records for report in reports) >= len(sent) + 1, "every record")
        with pytest.raises(LeaseHeld, match=r"lease stream is held by stillpoint stream, process \d+ on"):
            Supervisor(settings, clock=system_clock).run()
    sums: dict[str, int] = {}
    for report in reports:
        for verdict, count in report.verdicts.items():
            sums[verdict] = sums.get(verdict, 0) + count
    assert sums == {"on_time": 13 * 20, "late": 20, "duplicate": 20, "quarantined": 2 * 20 + 1}
    _wrong_clocks_are_told_apart(lake, now, len(users))
    acknowledged = read_acknowledged(lake.objects)
    assert acknowledged is not None
    assert acknowledged.generation == 1
    _streamed_rows_equal_history(lake)
    _online_equals_lake(settings, lake, projects)
    _requests_are_made_for_what_happened(settings, aws, users)


def _wrong_clocks_are_told_apart(lake: Lake, now: datetime, user_count: int) -> None:
    """A clock 50 seconds fast is accepted, its event keeps its own time; one 9 minutes fast is kept aside with its reason."""
    ahead = now + timedelta(seconds=50)
    stored = lake.read("events", columns=["event_timestamp", "verdict"]).to_pylist()
    assert [row["verdict"] for row in stored if row["event_timestamp"] == ahead] == ["on_time"] * user_count
    aside = lake.read("quarantine", columns=["field", "reason"]).to_pylist()
    fast = [row["reason"] for row in aside if row["field"] == "event_timestamp"]
    assert len(fast) == user_count
    assert all("after" in reason for reason in fast), fast[:1]


def _streamed_rows_equal_history(lake: Lake) -> None:
    streamed = {view.name: newest_rows(lake.read(feature_dataset(view)), "user_id") for view in STREAMED_VIEWS}
    again = Lake(lake.objects, FEATURES)
    backfill(again, ALL_DATES, at=datetime.now(UTC), app=APP)
    for view in STREAMED_VIEWS:
        assert newest_rows(Lake(lake.objects, FEATURES).read(feature_dataset(view)), "user_id").equals(
            streamed[view.name]
        )
        assert streamed[view.name].num_rows


def _online_equals_lake(settings: Settings, lake: Lake, projects: dict[Colour, str]) -> None:
    for colour, project in projects.items():
        client = connect(settings.connection(colour))
        for view in STREAMED_VIEWS:
            layout = ViewLayout.of(view)
            rows = newest_rows(lake.read(feature_dataset(view)), "user_id").to_pylist()
            newest = {row["user_id"]: row for row in rows}
            for user, row in newest.items():
                (key,) = encode_keys(layout, pa.table({"user_id": [user]}), project)
                stored = client.hget(key, layout.event_field)
                assert stored is not None, f"{view.name} of {user} is not online in {colour}"
                assert decode_time(stored) == int(row["event_timestamp"].timestamp() * 1_000_000 + 0.5)


def _requests_are_made_for_what_happened(settings: Settings, aws: Any, users: list[str]) -> None:
    client = aws.client("sqs")
    url = client.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]
    found: set[tuple[str, str, str]] = set()
    for _ in range(200):
        messages = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            request = PredictionRequest.model_validate_json(message["Body"])
            found.add((request.user_id, request.event_type, request.kind))
        if not messages:
            break
    for user in users:
        asked = {(kind, wanted) for owner, kind, wanted in found if owner == user}
        assert {("search", "today"), ("content_exit", "today"), ("content_exit", "sleep")} <= asked
        assert {wanted for kind, wanted in asked if kind == "biometric"} == {"today", "next"}


def test_records_are_read_once_and_a_span_is_read_again_the_same(settings: Settings, aws: Any) -> None:
    provision(settings)
    client = aws.client("kinesis")
    put_events(client, settings.event_stream, [(f"u{n % 7}", str(n).encode()) for n in range(700)])
    reader = ShardReader(client, settings.event_stream)
    start = reader.initial("TRIM_HORIZON", now=system_clock())
    positions, found = start, []
    while len(found) < 700:
        records, positions = reader.read(positions, 200)
        found += records
    assert sorted(int(record.data) for record in found) == list(range(700))
    by_user: dict[str, list[int]] = {}
    for record in found:
        by_user.setdefault(record.partition_key, []).append(int(record.data))
    assert all(numbers == sorted(numbers) for numbers in by_user.values())
    again = list(ShardReader(client, settings.event_stream).between(start, positions))
    assert sorted(again) == sorted(found)


@pytest.mark.soak
def test_fuzzed_payloads_each_get_a_verdict_and_none_stops_the_stream(settings: Settings, aws: Any) -> None:
    settings = settings.model_copy(update={"stream_max_records_per_batch": 600})
    provision(settings)
    lake = open_lake(settings)
    views = tuple(view.name for view in STREAMED_VIEWS)
    write_control(lake.objects, (Target(colour=Colour.GREEN, project=f"g_{uuid.uuid4().hex[:6]}", views=views),))
    sent = [pair for pair in Fuzz(1, datetime.now(UTC)).pairs(3_000) if len(pair[1]) <= 200_000]
    put_events(aws.client("kinesis"), settings.event_stream, sent)
    with streaming(settings) as (supervisor, reports):
        wait_for(lambda: sum(report.records for report in reports) >= len(sent), "every record")
        assert supervisor.metrics.registry.get_sample_value("stillpoint_stream_failures_total") == 0
    verdicts: Counter[str] = sum((report.verdicts for report in reports), Counter())
    stored = lake.read("events", columns=["shard", "sequence"]).to_pylist()
    aside = lake.read("quarantine", columns=["shard", "sequence", "payload"]).to_pylist()
    assert len({(row["shard"], row["sequence"]) for row in [*stored, *aside]}) == len(sent) == verdicts.total()
    assert max(report.records for report in reports) <= 600
    assert (len(stored), len(aside)) == (verdicts.total() - verdicts["quarantined"], verdicts["quarantined"])
    assert Counter(row["payload"] for row in aside) <= Counter(data for _, data in sent)
