"""The HTTP service answers from one release, says so, and lets in only whom it should."""

import gzip
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from inference.http.admission import AdmissionLimits
from inference.http.service import EXPLAINING, Service, ServiceParts
from inference.live.loaded_release import LoadedRelease, load
from inference.live.watcher import LiveReleaseWatcher
from inference.predictions.predict import Guard
from inference.predictions.served_log import ServedLog
from inference.tokens import Tokens
from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.clock import system_clock
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases.presence import WorkerKind, present
from stillpoint.settings import Settings
from stillpoint.stores.reading.reader import AsyncOnlineReader
from stillpoint.stores.redis.connection import connect, connect_async
from tests.support.hand_made import HandMade, hand_made
from tests.support.wellness import FEATURES, PARSER

EVENT = {
    "schema_version": 1,
    "type": "login",
    "event_id": "0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b",
    "user_id": "u1",
    "event_timestamp": "2026-01-01T00:00:00Z",
    "platform": "ios",
}


def service(made: HandMade, tokens: Tokens | None = None, **other: Any) -> TestClient:
    connection = made.settings.redis_serving.get_secret_value()
    following = LiveReleaseWatcher(
        made.book,
        lambda release, generation: load(made.book, made.lake, made.settings, release, generation, now=system_clock()),
        redis=connect(connection),
        kind=WorkerKind.SERVICE,
        address="test",
        clock=system_clock,
    )
    parts = ServiceParts(
        parser=PARSER,
        following=following,
        redis=connect_async(connection),
        async_reader=lambda loaded: AsyncOnlineReader(
            connect_async(made.settings.connection(loaded.release.colour)), loaded.plan
        ),
        put_events=lambda payloads: None,
        quarantine=lambda rejected: None,
        explain=lambda recommendation_id, loaded: None,
        served_log=ServedLog(made.lake, clock=system_clock, erasure_key=b"key"),
        clock=system_clock,
        guard=Guard(),
        tokens=tokens,
    )
    return TestClient(Service(replace(parts, **other)).app)


@pytest.fixture
def made(tmp_path: Path, redis_factory: Any) -> HandMade:
    connection = redis_factory().connection_string
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
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
    return made


@pytest.fixture
def client(made: HandMade) -> Iterator[TestClient]:
    with service(made) as client:
        yield client


def test_a_prediction_is_made_by_the_live_release_and_says_so(client: TestClient) -> None:
    answer = client.post("/v1/recommendations", json={"user_id": "u1", "kind": "today", "limit": 5})
    assert answer.status_code == 200
    assert answer.headers["X-Stillpoint-Release"] == answer.json()["release"] == "r0001"
    assert (answer.json()["source"], len(answer.json()["items"])) == ("model", 5)


def test_what_is_not_stored_is_answered_with_popular_content_that_is_marked(client: TestClient) -> None:
    answer = client.get("/v1/users/u1/recommendations?kinds=today,sleep").json()
    assert {name: one["source"] for name, one in answer["recommendations"].items()} == dict.fromkeys(
        ("today", "sleep"), "fallback"
    )


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/users/u1/recommendations?kinds=x", "kinds"), ("/v1/users/u1/recommendations?limit=0", "limit")],
)
def test_a_bad_request_is_a_problem_that_names_the_field(client: TestClient, path: str, field: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("field", ["user_id", "kind", "limit"])
def test_a_field_that_is_null_is_not_taken_for_one_that_is_left_out(client: TestClient, field: str) -> None:
    answer = client.post("/v1/recommendations", json={"user_id": "u1", field: None})
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/users/u1/recommendations?limit=5&limit=7",
        "/v1/users/u1/recommendations?kinds=today&kinds=sleep",
        "/v1/release?verbose=1",
        "/v1/recommendations/" + "ab" * 16 + "/explanation?a=1",
    ],
)
def test_a_parameter_that_is_unknown_or_stands_twice_is_not_dropped_in_silence(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 422


@pytest.mark.parametrize("path", ["/v1/release/", "/healthz/", "/v1/users/u1/recommendations/", "//v1/release"])
def test_a_path_that_is_almost_right_is_unknown_and_sends_nobody_to_another_host(client: TestClient, path: str) -> None:
    answer = client.get(f"http://testserver{path}", headers={"Host": "evil.example"}, follow_redirects=False)
    assert answer.status_code == 404
    assert "location" not in answer.headers
    assert "evil.example" not in answer.text


def test_nobody_asked_about_is_an_answer_without_rows(client: TestClient) -> None:
    for mode in ("compat", "enforce"):
        asked = {
            "entities": {"user_id": [], "content_id": [], "request_timestamp": []},
            "feature_service": RANKER_SERVICE,
        }
        answer = client.post("/get-online-features", json=asked, headers={"X-Stillpoint-Mode": mode})
        assert answer.status_code == 200, answer.text
        assert all(
            result == {"values": [], "statuses": [], "event_timestamps": []} for result in answer.json()["results"]
        )


@pytest.mark.parametrize("value", [True, False, 1.5, None, {"a": 1}, ["u1"], [[]], {}])
def test_what_is_neither_text_nor_a_whole_number_is_no_id(client: TestClient, value: Any) -> None:
    asked = {"entities": {"user_id": ["u1", value]}, "features": ["user_profiles:locale"]}
    answer = client.post("/get-online-features", json=asked)
    assert answer.status_code == 422
    assert "value 1 is" in answer.json()["detail"]


def test_a_gzip_body_is_taken_and_another_encoding_is_not(client: TestClient) -> None:
    packed = gzip.compress(json.dumps({"user_id": "u1", "limit": 3}).encode())
    answer = client.post("/v1/recommendations", content=packed, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, len(answer.json()["items"])) == (200, 3)
    answer = client.post("/v1/recommendations", content=packed, headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["Accept-Encoding"]) == (415, "gzip")


def test_explanations_that_never_end_keep_no_event_and_no_prediction_waiting(made: HandMade) -> None:
    go, begun = threading.Event(), []

    def slow(recommendation_id: str, loaded: LoadedRelease) -> None:
        begun.append(recommendation_id)
        go.wait(60)

    put: list[Any] = []
    try:
        with service(made, explain=slow, put_events=put.extend, limits=AdmissionLimits(seconds=0.5)) as client:
            with ThreadPoolExecutor(6) as callers:
                path = f"/v1/recommendations/{'ab' * 16}/explanation"
                answers = list(callers.map(lambda _: client.get(path), range(6)))
            assert {answer.status_code for answer in answers} == {503}
            assert client.get(path).status_code == 503
            assert len(begun) <= EXPLAINING
            assert client.post("/v1/recommendations", json={"user_id": "u1"}).status_code == 200
            assert client.post("/v1/events", json={"events": [EVENT, {}]}).status_code == 202
            assert [user for user, _ in put] == ["u1"]
    finally:
        go.set()


def test_without_a_release_nothing_is_ready_and_clients_are_told_to_come_back(tmp_path: Path, made: HandMade) -> None:
    made.lake = Lake(LocalObjects(tmp_path / "empty"), FEATURES)
    made.book = type(made.book)(made.lake.objects)
    with service(made) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_tokens_open_only_what_their_scope_says(tmp_path: Path, made: HandMade) -> None:
    file = tmp_path / "tokens.json"
    entry = {"name": "app", "sha256": hashlib.sha256(b"secret").hexdigest(), "scopes": ["read"]}
    file.write_text(json.dumps({"tokens": [entry]}))
    body = {"user_id": "u1", "kind": "today"}
    with service(made, Tokens.load(file)) as client:
        bearer = {"Authorization": "Bearer secret"}
        assert client.get("/v1/release").status_code == 401
        assert client.get("/v1/release", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/v1/release", headers=bearer).status_code == 200
        assert client.post("/v1/recommendations", json=body, headers=bearer).status_code == 403


def test_what_was_served_reaches_the_lake_when_the_service_ends(made: HandMade) -> None:
    with service(made) as client:
        client.post("/v1/recommendations", json={"user_id": "u1", "kind": "today"})
    (row,) = made.lake.read("served").to_pylist()
    assert (row["user_id"], row["release"], row["source"]) == ("u1", "r0001", "model")
    assert row["served_at"] <= datetime.now(UTC)


def test_a_service_becomes_ready_when_a_release_is_live_and_its_features_can_be_read(
    made: HandMade, redis_factory: Any
) -> None:
    with service(made) as client:
        assert client.get("/readyz").json() == {"status": "ready", "release": "r0001"}
        made.client.execute_command("CLIENT", "PAUSE", "3000", "ALL")  # Redis hangs for three seconds
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["detail"]) == (503, "the features of the release cannot be read")
        assert client.get("/healthz").status_code == 200


def test_recommendations_are_answered_while_redis_is_away_and_recover_by_themselves(
    made: HandMade, redis_factory: Any
) -> None:
    body = {"user_id": "u1", "kind": "today"}
    port = int(made.settings.connection(made.release.colour).split(":")[1].split(",")[0])
    with service(made) as client:
        assert client.post("/v1/recommendations", json=body).json()["source"] == "model"
        made.client.shutdown(nosave=True)
        for answer in (
            client.post("/v1/recommendations?verbose=1", json=body),
            client.get("/v1/users/u1/recommendations"),
        ):
            assert answer.status_code == 200
            one = answer.json().get("recommendations", {}).get("today", answer.json())
            assert (one["source"], len(one["items"])) == ("fallback", 10)
        features = client.post(
            "/get-online-features", json={"entities": {"user_id": ["u1"]}, "features": ["user_profiles:locale"]}
        )
        assert (features.status_code, features.headers["retry-after"]) == (503, "1")
        assert b'stillpoint_fallbacks_total{reason="store away"}' in client.get("/metrics").content
        redis_factory(port=port)
        hand_made(made.lake, made.settings, project=made.release.project)
        assert client.post("/v1/recommendations", json=body).json()["source"] == "model"


def test_a_service_starts_while_the_redis_of_recommendations_is_away_and_recovers_by_itself(
    made: HandMade, redis_factory: Any
) -> None:
    serving = redis_factory()
    serving.stop()
    settings = made.settings.model_copy(update={"redis_serving": SecretStr(serving.connection_string)})
    body = {"user_id": "u1", "kind": "today"}
    with service(replace(made, settings=settings)) as client:
        answer = client.post("/v1/recommendations", json=body)
        assert (answer.status_code, answer.json()["source"]) == (200, "fallback")
        assert (client.get("/healthz").status_code, client.get("/readyz").status_code) == (200, 503)
        serving.restart()
        assert client.post("/v1/recommendations", json=body).json()["source"] == "model"
        assert client.get("/readyz").status_code == 200
        until_beating(serving)


def until_beating(serving: RedisServer, seconds: float = 10.0) -> None:
    """Wait until the service that came up without this Redis is in its list of workers."""
    client, end = connect(serving.connection_string), time.monotonic() + seconds
    while not present(client):
        assert time.monotonic() < end, "the service does not beat"
        time.sleep(0.05)


def test_more_entities_or_events_than_allowed_are_refused(client: TestClient) -> None:
    entities = {"user_id": [f"u{number}" for number in range(10_001)]}
    answer = client.post("/get-online-features", json={"entities": entities, "features": ["user_profiles:locale"]})
    assert (answer.status_code, answer.json()["field"]) == (422, "entities")
    answer = client.post("/v1/events", json={"events": [{}] * 501})
    assert (answer.status_code, answer.json()["field"]) == (422, "events")


def test_a_stored_recommendation_that_cannot_be_read_is_answered_with_popular_content(
    client: TestClient, made: HandMade
) -> None:
    made.client.hset("stillpoint:rec:u1:today:r0001", "recommendation", b"{broken")
    answer = client.get("/v1/users/u1/recommendations")
    assert (answer.status_code, answer.json()["recommendations"]["today"]["source"]) == (200, "fallback")
