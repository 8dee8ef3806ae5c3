"""A hash that is fetched whole, because Redis keeps it compact, is read as if its fields had been asked for."""

import asyncio
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast import ValueType as FeastValueType
from feast.types import Float64, Int64, String

from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import AsyncOnlineReader, OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect, connect_async
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.stores.values.types import ValueType

T0 = 1_790_000_000_000_000
LAYOUTS = tuple(
    ViewLayout(
        name,
        (Column("user_id", ValueType.STRING),),
        tuple(Column(f"{name}_{n}", type) for n, type in enumerate([ValueType.INT64, ValueType.DOUBLE] * 20)),
        60_000_000,
    )
    for name in ("first", "second")
)
USERS = ["u1", "u2", "nobody", "u1", "half"]


@pytest.fixture(params=["compact", "table", "compact, third protocol"])
def server(request: pytest.FixtureRequest, redis_factory: Any) -> tuple[RedisServer, str, bool]:
    compact = request.param.startswith("compact")
    made = redis_factory({} if compact else {"hash-max-ziplist-entries": "16"})
    return made, made.connection_string + (",protocol=3" if "third" in request.param else ""), compact


def fill(connection: str, project: str) -> None:
    writer = OnlineWriter(connect(connection), project)
    for layout in LAYOUTS:
        users = ["u1", "u2"] if layout.name == "second" else ["u1", "u2", "half"]
        columns: dict[str, Any] = {
            "user_id": users,
            "event_timestamp": pa.array([T0 - 10**8 * (user == "u2") for user in users], pa.timestamp("us", tz="UTC")),
        }
        for number, column in enumerate(layout.features):
            columns[column.name] = [None if number == 3 else number * (place + 1) for place in range(len(users))]
        writer.write(layout, pa.table(columns))


@pytest.mark.parametrize("mode", list(Mode))
def test_a_whole_hash_reads_as_its_fields(server: tuple[RedisServer, str, bool], mode: Mode) -> None:
    made, connection, compact = server
    fill(connection, "p")
    client = connect(connection)
    reader = OnlineReader(client, ReadPlan("p", LAYOUTS))

    async def later() -> list[Any]:
        connected = connect_async(connection)
        waiting = AsyncOnlineReader(connected, ReadPlan("p", LAYOUTS))
        answers = [await waiting.read(["second", "first"], {"user_id": USERS}, now_us=T0, mode=mode) for _ in range(2)]
        await connected.aclose()
        return [everything(answer) for answer in answers]

    def read() -> Any:
        return everything(reader.read(["second", "first"], {"user_id": USERS}, now_us=T0, mode=mode))

    by_fields = read()
    made.client().config_resetstat()
    assert [read(), *asyncio.run(later())] == [by_fields] * 3
    told = made.client().info("commandstats")
    assert ("cmdstat_hgetall" in told) is compact
    values = by_fields[0]
    assert values["first_4"] == ([4, None, None, 4, 12] if mode is Mode.ENFORCE else [4, 8, None, 4, 12])
    assert values["second_4"][4] is None
    assert values["first_3"] == [None] * 5
    alone = reader.read(["second", "first"], {"user_id": ["u1"]}, now_us=T0, mode=mode)
    assert alone.to_dict() == {name: held[:1] for name, held in values.items()}
    assert str([alone.column(f"first_{n}").tolist() for n in (2, 3, 5)]) == "[[2.0], [nan], [5.0]]"


def feast_store(folder: Path, connection: str) -> FeatureStore:
    store = FeatureStore(
        config=RepoConfig(
            project="p",
            provider="local",
            registry=str(folder / "registry.pb"),
            online_store=StillpointOnlineStoreConfig(connection_string=connection),
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=FeastValueType.STRING)
    types = {ValueType.INT64: Int64, ValueType.DOUBLE: Float64}
    views = [
        FeatureView(
            name=layout.name,
            entities=[user],
            schema=[
                Field(name="user_id", dtype=String),
                *(Field(name=column.name, dtype=types[column.type]) for column in layout.features),
            ],
            source=FileSource(path="nowhere.parquet", timestamp_field="event_timestamp", name=layout.name),
        )
        for layout in LAYOUTS
    ]
    store.apply([user, *views])
    return store


def test_feasts_own_read_of_a_whole_hash_is_that_of_its_fields(
    server: tuple[RedisServer, str, bool], tmp_path: Path
) -> None:
    made, connection, compact = server
    fill(connection, "p")
    store = feast_store(tmp_path, connection)
    refs = [f"{layout.name}:{column.name}" for layout in LAYOUTS for column in layout.features]
    asked: dict[str, Any] = {"features": refs, "entity_rows": [{"user_id": user} for user in USERS]}
    by_fields = store.get_online_features(**asked)
    made.client().config_resetstat()
    again = [store.get_online_features(**asked), asyncio.run(store.get_online_features_async(**asked))]
    assert [one.proto.SerializeToString(deterministic=True) for one in again] == [
        by_fields.proto.SerializeToString(deterministic=True)
    ] * 2
    assert ("cmdstat_hgetall" in made.client().info("commandstats")) is compact
    reader = OnlineReader(connect(connection), ReadPlan("p", LAYOUTS))
    expected = reader.read(["first", "second"], {"user_id": USERS}, now_us=T0, mode=Mode.COMPAT)
    assert by_fields.to_dict() == expected.to_dict()


def everything(answer: Any) -> tuple[Any, ...]:
    return (
        answer.to_dict(),
        {name: answer.status(name).tolist() for name in answer.names},
        {view: answer.event_us(view).tolist() for view in answer.views},
        {view: answer.created_us(view).tolist() for view in answer.views},
        {name: [str(value) for value in answer.column(name).tolist()] for name in answer.names},
    )


def test_a_user_who_may_not_ask_how_a_hash_is_kept_reads_its_fields(redis_factory: Any, tmp_path: Path) -> None:
    made = redis_factory()
    fill(made.connection_string, "p")
    made.client().execute_command("ACL", "SETUSER", "narrow", "on", ">word", "~*", "-@all", "+hmget")
    reader = OnlineReader(
        connect(f"{made.connection_string},username=narrow,password=word"), ReadPlan("p", LAYOUTS), fill_marker=False
    )
    store = feast_store(tmp_path, f"{made.connection_string},username=narrow,password=word")
    refs = [f"{layout.name}:{column.name}" for layout in LAYOUTS for column in layout.features]
    for _ in range(2):
        assert reader.read(["first", "second"], {"user_id": ["u1"]}, now_us=T0).values("first_4") == [4]
        answer = store.get_online_features(features=refs, entity_rows=[{"user_id": "u1"}])
        assert answer.to_dict()["first_4"] == [4]


def test_an_entity_without_a_hash_teaches_nothing(redis_factory: Any) -> None:
    made = redis_factory()
    reader = OnlineReader(connect(made.connection_string), ReadPlan("p", LAYOUTS))
    assert reader.read(["first", "second"], {"user_id": ["u1"]}, now_us=T0).values("first_4") == [None]
    fill(made.connection_string, "p")
    made.client().config_resetstat()
    for _ in range(3):
        assert reader.read(["first", "second"], {"user_id": ["u1"]}, now_us=T0).values("first_4") == [4]
    calls = made.client().info("commandstats")
    (asked,) = (count for name, count in calls.items() if name.startswith("cmdstat_object"))  # Redis 7 adds "|encoding"
    assert (asked["calls"], calls["cmdstat_hgetall"]["calls"]) == (1, 2)
    (key,) = encode_keys(LAYOUTS[0], pa.table({"user_id": ["u1"]}), "p")
    made.client().delete(key)
    assert reader.read(["first", "second"], {"user_id": ["u1"]}, now_us=T0).status("first_4").tolist() == [3]
