"""A stock `feast.FeatureStore` with a remote online store reads from our feature server what it reads from `feast serve`."""

import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
import requests
import uvicorn
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.feature_server import get_app
from feast.infra.online_stores.remote import RemoteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.type_map import python_values_to_proto_values
from feast.types import (
    Array,
    Bool,
    Bytes,
    Decimal,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    Map,
    Set,
    String,
    Struct,
    TimeUuid,
    UnixTimestamp,
    Uuid,
    ZonedTimestamp,
)  # fmt: skip
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from stillpoint.errors import InvalidInput, PlanRefused, StillpointError, UnknownFeature
from stillpoint.feast_definitions import define
from stillpoint.features.on_demand import ON_DEMAND_VIEW, on_demand_functions
from stillpoint.features.request_time import REQUEST_TIMESTAMP
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.feature_server.request import RequestParser
from stillpoint.stores.feature_server.response import to_response
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.plan import OnDemand, ReadPlan, Selection
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import Column
from stillpoint.stores.values.types import ValueType as Type
from tests.support.wellness import FEATURES

AT = datetime(2026, 11, 21, 8, 30, 0, 250000, tzinfo=UTC)
PROJECT = "remote_reads"
SAMPLES: list[tuple[Any, Any, Any]] = [
    (Int32, 5, -5), (Int64, 2**40, None), (Float32, 0.5, 0.1), (Float64, 0.1, float("inf")), (String, "héllo", ""),
    (Bytes, b"\x00\xff", None), (Bool, True, False), (UnixTimestamp, AT, None), (Uuid, uuid.UUID(int=5), None),
    (TimeUuid, uuid.UUID(int=6), None), (Decimal, Number("1.50"), None), (Json, {"a": [1, None]}, None),
    (Map, {"a": 1, "b": "x", "c": None, "d": {"e": 1.5}}, None), (Struct({"a": Int64}), {"a": 3}, None), (Array(Int32), [1, 2], []),
    (Array(Int64), [2**40], None), (Array(Float32), [0.1, 0.2], None), (Array(Float64), [0.1, float("nan")], None),
    (Array(String), ["a", ""], None), (Array(Bytes), [b"\x01"], None), (Array(Bool), [True, False], None),
    (Array(UnixTimestamp), [AT], None), (Array(Uuid), [uuid.UUID(int=7)], None), (Array(Decimal), [Number("2.5")], None),
    (Array(Map), [{"a": 1}], None), (Array(Array(Int64)), [[1], [2, 3]], None), (Set(Int64), {1, 2}, None),
    (Set(String), {"a"}, None), (Set(Bool), {True}, None), (ZonedTimestamp, AT, None),
]  # fmt: skip


class Served:
    """A project that holds every type, our server's app, and Feast's own."""

    def __init__(self, folder: Path, server: RedisServer) -> None:
        self.folder = folder
        self.address = f"{server.connection_string}"
        self.store = FeatureStore(config=self.config(StillpointOnlineStoreConfig(connection_string=self.address)))
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        schema = [Field(name="user_id", dtype=String)] + [
            Field(name=f"f{n}", dtype=dtype) for n, (dtype, *_) in enumerate(SAMPLES)
        ]
        source = FileSource(path="nowhere.parquet", timestamp_field="event_timestamp", name="src")
        view = FeatureView(name="kinds", entities=[user], ttl=timedelta(hours=1), schema=schema, source=source)
        self.store.apply([user, view, FeatureService(name="everything", features=[view])])
        rows = []
        for place, name in ((1, "u1"), (2, "u2")):
            key = EntityKey(
                join_keys=["user_id"], entity_values=python_values_to_proto_values([name], ValueType.STRING)
            )
            values = {
                f"f{n}": python_values_to_proto_values([sample[place]], sample[0].to_value_type())[0]
                for n, sample in enumerate(SAMPLES)
            }
            rows.append((key, values, AT, None))
        self.store._get_provider().online_write_batch(
            self.store.config, self.store.get_feature_view("kinds"), rows, None
        )
        self.plan = compile_plan(self.store)
        self.parser = RequestParser(self.plan)
        self.reader = OnlineReader(connect(self.address), self.plan)

    def config(self, online: Any) -> RepoConfig:
        return RepoConfig(
            project=PROJECT,
            provider="local",
            registry=str(self.folder / "registry.pb"),
            online_store=online,
            entity_key_serialization_version=3,
        )

    def app(self) -> Starlette:
        async def answer(request: Request) -> Response:
            try:
                parsed = self.parser.parse(orjson.loads(await request.body()))
                columns = await run_in_threadpool(
                    self.reader.read, parsed.requested.read, parsed.entities, now_us=0, mode=Mode.COMPAT
                )
                return Response(orjson.dumps(to_response(parsed, columns)), media_type="application/json")
            except StillpointError as error:
                return Response(orjson.dumps({"detail": str(error)}), status_code=422, media_type="application/json")

        return Starlette(routes=[Route("/get-online-features", answer, methods=["POST"])])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Served:
    return Served(tmp_path_factory.mktemp("served"), redis_server)


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(served.app(), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


BODIES = [
    {"features": [f"kinds:f{n}" for n in range(len(SAMPLES))], "entities": {"user_id": ["u1", "u2", "nobody", "u1"]}},
    {"feature_service": "everything", "entities": {"user_id": ["u2"]}, "full_feature_names": True},
    {
        "feature_service": "everything",
        "entities": {"user_id": ["u1"], "ignored": [1]},
        "include_feature_view_version_metadata": True,
    },
]


@pytest.mark.parametrize("body", BODIES)
def test_the_answer_is_the_very_json_of_feasts_feature_server(
    served: Served, address: str, body: dict[str, Any]
) -> None:
    with TestClient(get_app(served.store)) as feast:
        expected = feast.post("/get-online-features", json=body).json()
    answered = requests.post(f"{address}/get-online-features", json=body, timeout=10).json()
    assert by_name(answered) == by_name(expected)
    assert answered["metadata"].get("feature_view_metadata") == expected["metadata"].get("feature_view_metadata")


def by_name(response: dict[str, Any]) -> dict[str, Any]:
    """Columns by name: Feast's order changes with the hash seed."""
    names = response["metadata"]["feature_names"]
    return dict(zip(names, response["results"], strict=True))


def test_a_stock_remote_store_reads_every_type_as_from_feast_serve(served: Served, address: str) -> None:
    feast_server = uvicorn.Server(uvicorn.Config(get_app(served.store), host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=feast_server.run, daemon=True)
    thread.start()
    while not feast_server.started:
        time.sleep(0.01)
    theirs = f"http://127.0.0.1:{feast_server.servers[0].sockets[0].getsockname()[1]}"
    try:
        for refs in ([f"kinds:f{n}"] for n in range(len(SAMPLES))):
            answers = []
            for path in (address, theirs):
                remote = FeatureStore(config=served.config(RemoteOnlineStoreConfig(path=path)))
                try:
                    answers.append(shown(remote.get_online_features(refs, {"user_id": ["u1", "u2"]}).to_dict()))
                except (TypeError, ValueError) as error:  # a type that Feast's own client cannot carry
                    answers.append(repr(error))
            assert answers[0] == answers[1], refs
    finally:
        feast_server.should_exit = True
        thread.join(10)


def shown(value: Any) -> str:
    """Return a value as text that tells types and NaN apart; a map's keys are sorted, as protobuf gives them in any order."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {shown(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return repr(value)


def test_the_order_is_the_services(served: Served) -> None:
    request = served.parser.parse({"feature_service": "everything", "entities": {"user_id": ["u1"]}})
    columns = served.reader.read(request.requested.read, request.entities, now_us=0, mode=Mode.COMPAT)
    names = to_response(request, columns)["metadata"]["feature_names"]
    assert names == ["user_id", *(f"f{n}" for n in range(len(SAMPLES)))]


def test_enforced_reads_say_not_found_and_give_no_value(served: Served) -> None:
    request = served.parser.parse({"features": ["kinds:f0"], "entities": {"user_id": ["u1", "nobody"]}})
    late = int(AT.timestamp() * 1e6) + 2 * 3600 * 1_000_000
    result = to_response(request, served.reader.read(request.requested.read, request.entities, now_us=late))["results"][
        1
    ]
    assert result["values"] == [None, None]
    assert result["statuses"] == ["NOT_FOUND", "NOT_FOUND"]


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ([], InvalidInput, "not a JSON object"),
        ({"entities": {"user_id": ["u"]}}, InvalidInput, "name features or a feature_service"),
        (
            {"features": ["kinds:f0"], "entities": {"user_id": "u"}},
            InvalidInput,
            "entities: expected an object of lists",
        ),
        ({"features": ["kinds:f0"], "entities": {}}, InvalidInput, "join key user_id is missing"),
        ({"features": ["kinds:f0"], "entities": {"user_id": [None]}}, InvalidInput, "value 0 is null"),
        ({"features": ["kinds:nope"], "entities": {"user_id": ["u"]}}, UnknownFeature, "has no feature 'nope'"),
        ({"feature_service": "nope", "entities": {"user_id": ["u"]}}, UnknownFeature, "no feature service 'nope'"),
        ({"features": ["kinds"], "entities": {"user_id": ["u"]}}, InvalidInput, 'list of "view:feature"'),
        ({"features": ["kinds:f0"], "entities": {"user_id": ["u"]}, "x": 1}, InvalidInput, "unknown field x"),
    ],
)
def test_a_bad_request_is_refused_with_the_field(served: Served, body: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as refusal:
        served.parser.parse(body)
    assert words in str(refusal.value)


def test_a_foreign_on_demand_view_is_refused_by_name(served: Served) -> None:
    computed = OnDemand("scaled", (Column("double", Type.DOUBLE),), (), (), None)
    services = {"both": (Selection("scaled", ("double",), "scaled"),)}
    plan = ReadPlan(served.plan.project, served.plan.views, {"both": ()}, (computed,), services)
    for asked in ({"features": ["scaled:double"]}, {"feature_service": "both"}):
        with pytest.raises(PlanRefused, match="scaled is an on-demand feature view with a foreign function"):
            RequestParser(plan, on_demand_functions(FEATURES)).parse({**asked, "entities": {"user_id": ["u"]}})
    with pytest.raises(PlanRefused, match="'both' has on-demand feature views"):
        plan.select("both")
    assert ReadPlan.from_json(plan.to_json()) == plan


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> FeatureStore:
    """A store with our own definitions, two services of which hold the on-demand view, and a user and a content."""
    folder = tmp_path_factory.mktemp("ours")
    online = StillpointOnlineStoreConfig(connection_string=redis_server.connection_string)
    store = FeatureStore(
        config=RepoConfig(
            project="request_time_reads",
            provider="local",
            registry=str(folder / "registry.pb"),
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    defined = define(FEATURES, lake_root=str(folder), mapping_version=1)
    both = FeatureService(name="both", features=[defined.views["session_bounce_rates"], defined.on_demand])
    alone = FeatureService(name="alone", features=[defined.on_demand[["hour_of_day", "search_title_cosine"]]])
    store.apply([*defined.all(), both, alone])
    random = np.random.default_rng(4)
    known = {
        "session_play_count": 4, "session_bounce_rate": 0.75, "session_sleep_play_count": 3,
        "session_sleep_bounce_rate": 1.0, "search_embedding": random.normal(size=256).astype(np.float32),
        "title_embedding": random.normal(size=256).astype(np.float32), "category": "sleep", "exertion_rising": True,
        "plays_30d_sleep": 5, "plays_30d_focus": 3, "completion_rate_30d_sleep": 0.25,
    }  # fmt: skip
    for name in FEATURES.on_demand_sources:
        view = defined.views[name]
        key = "u1" if view.join_keys == ["user_id"] else "c1"
        row = {view.join_keys[0]: key, "event_timestamp": AT, "created_timestamp": AT}
        row |= {field.name: known.get(field.name) for field in view.features}
        store.write_to_online_store(name, pd.DataFrame([row]))
    return store


@pytest.mark.parametrize("full_names", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        {"features": [f"{ON_DEMAND_VIEW}:{one.name}" for one in FEATURES.on_demand]},
        {"features": ["session_bounce_rates:session_bounce_rate", f"{ON_DEMAND_VIEW}:category_bounce_rate"]},
        {"feature_service": "both"},
        {"feature_service": "alone"},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_our_on_demand_features_are_computed_as_feast_computes_them(
    ours: FeatureStore, redis_server: RedisServer, asked: dict[str, Any], full_names: bool
) -> None:
    moment = int(AT.timestamp()) * 1_000_000
    body = {
        **asked,
        "entities": {
            "user_id": ["u1", "u1", "nobody"],
            "content_id": ["c1", "none", "c1"],
            REQUEST_TIMESTAMP: [moment] * 3,
        },
        "full_feature_names": full_names,
    }
    with TestClient(get_app(ours)) as feast:
        expected = feast.post("/get-online-features", json=body)
    assert expected.status_code == 200, expected.text
    plan = compile_plan(ours)
    request = RequestParser(plan, on_demand_functions(FEATURES)).parse(body)
    reader = OnlineReader(connect(redis_server.connection_string), plan)
    columns = reader.read(request.requested.read, request.entities, now_us=moment, mode=Mode.COMPAT)
    found = orjson.loads(orjson.dumps(to_response(request, columns)))
    assert by_name(found) == by_name(expected.json())
    assert any(value is not None for result in found["results"][2:] for value in result["values"])


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (None, "entities: request_timestamp_us is missing; the on-demand feature view request_time computes with it"),
        (["soon"], "entities.request_timestamp_us: value 0 is 'soon'; expected a number"),
    ],
)
def test_the_moment_of_the_request_must_be_given(ours: FeatureStore, moment: Any, words: str) -> None:
    entities = {"user_id": ["u1"], "content_id": ["c1"]} | ({REQUEST_TIMESTAMP: moment} if moment else {})
    with pytest.raises(InvalidInput) as refusal:
        RequestParser(compile_plan(ours), on_demand_functions(FEATURES)).parse(
            {"features": [f"{ON_DEMAND_VIEW}:hour_of_day"], "entities": entities}
        )
    assert words in str(refusal.value)
