"""Every kind of bad input is refused with a sentence that names view, feature and entity, and no value is ever another's."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast import ValueType as FeastType
from feast.types import Float64, Int64

from stillpoint.errors import CorruptData, InvalidInput, StackUnavailable, StillpointError, UnknownFeature
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.feature_server.request import RequestParser
from stillpoint.stores.feature_server.response import to_response
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import AsyncOnlineReader, OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import RedisRefused, connect, connect_async
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.stores.values.encode import encode_value
from stillpoint.stores.values.types import ValueType

AT = datetime(2026, 11, 20, tzinfo=UTC)
T0 = round(AT.timestamp()) * 1_000_000
LAYOUT = ViewLayout(
    "clicks",
    (Column("user_id", ValueType.STRING),),
    (
        Column("count", ValueType.INT64),
        Column("rate", ValueType.DOUBLE),
        Column("name", ValueType.STRING),
        Column("vector", ValueType.FLOAT_LIST),
        Column("tags", ValueType.STRING_LIST),
    ),
)
USERS = ["u1", "u2"]


@pytest.fixture
def project() -> str:
    return f"p{uuid.uuid4().hex}"


def table(rows: int = 2, **columns: Any) -> Any:
    held = {
        "user_id": [f"u{n + 1}" for n in range(rows)],
        "event_timestamp": pa.array([AT] * rows, pa.timestamp("us", tz="UTC")),
        "count": [n + 1 for n in range(rows)],
        "rate": [n + 0.5 for n in range(rows)],
        "name": [f"n{n + 1}" for n in range(rows)],
        "vector": [[1.0, n] for n in range(rows)],
        "tags": [["a"] for _ in range(rows)],
    }
    return pa.table({**held, **columns})


def written(server: RedisServer, project: str) -> Any:
    client = connect(server.connection_string)
    OnlineWriter(client, project).write(LAYOUT, table())
    return client


@pytest.mark.parametrize("rows", [2, 3000])
@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("count", pa.array([1.0, 0.5]), "clicks:count, entity user_id=u2, row 1: expected INT64, found double: .*0.5"),
        ("count", pa.array([1, 2**63], pa.uint64()), "clicks:count, entity user_id=u2, row 1: expected INT64, found u"),
        ("rate", pa.array(["a", "b"]), "clicks:rate, entity user_id=u1, row 0: expected DOUBLE, found string: .*'a'"),
        ("tags", pa.array([[1], [2]]), "clicks:tags, entity user_id=u1, row 0: expected STRING_LIST, found l"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_entity_and_nothing_is_written(
    redis_server: RedisServer, project: str, rows: int, name: str, values: Any, words: str
) -> None:
    bad = table(rows, **{name: values.take(pa.array([0, 1, *[0] * (rows - 2)]))})
    client = connect(redis_server.connection_string)
    with pytest.raises(InvalidInput, match=f"feature {words}"):
        OnlineWriter(client, project).write(LAYOUT, bad)
    assert client.exists(*encode_keys(LAYOUT, bad.slice(0, 2), project)) == 0


@pytest.mark.parametrize(
    ("features", "entities", "error", "words"),
    [
        (["clicks"], {}, InvalidInput, "view clicks: join key user_id is missing; given were none"),
        (["clicks"], {"user": ["u1"]}, InvalidInput, "view clicks: join key user_id is missing; given were user"),
        (["clicks"], {"user_id": ["u1", None]}, InvalidInput, "view clicks: join key user_id of row 1 is null"),
        (
            ["clicks"],
            {"user_id": [7.5]},
            InvalidInput,
            "view clicks: join key user_id of row 0 is 7.5; expected STRING",
        ),
        (["clicks"], {"user_id": ["u1"], "x": []}, InvalidInput, "equally many values; found .'user_id': 1, 'x': 0"),
        (
            ["clicks:nope"],
            {"user_id": ["u1"]},
            UnknownFeature,
            "view 'clicks' has no feature 'nope'; it has count, rate",
        ),
        (["nope:count"], {"user_id": ["u1"]}, UnknownFeature, "no feature view 'nope'; it has clicks"),
    ],
)
def test_a_read_that_cannot_be_is_refused_before_redis_is_asked(
    features: Any, entities: Any, error: type[Exception], words: str
) -> None:
    nobody = connect("127.0.0.1:1")
    with pytest.raises(error, match=words):
        OnlineReader(nobody, ReadPlan("p", (LAYOUT,))).read(features, entities, now_us=T0)


def test_a_column_that_was_not_read_is_named(redis_server: RedisServer, project: str) -> None:
    reader = OnlineReader(written(redis_server, project), ReadPlan(project, (LAYOUT,)))
    answer = reader.read(["clicks:count"], {"user_id": USERS}, now_us=T0)
    with pytest.raises(UnknownFeature, match="feature 'rate' was not read; read were clicks__count"):
        answer.column("rate")
    with pytest.raises(UnknownFeature, match="view 'plays' was not read; read were clicks"):
        answer.event_us("plays")


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("place", "feature"), list(enumerate(["count", "rate", "name", "vector", "tags"])))
def test_corrupt_bytes_are_named_whatever_way_they_are_read(
    redis_server: RedisServer, project: str, mode: Mode, place: int, feature: str
) -> None:
    client = written(redis_server, project)
    keys = encode_keys(LAYOUT, table(), project)
    client.hset(keys[1], LAYOUT.fields[place], b"\xff\x01junk")
    plan = ReadPlan(project, (LAYOUT,))
    words = f"feature clicks:{feature}, entity user_id=u2: .*; delete the entity's key or write the feature again"
    request = RequestParser(plan).parse({"features": [f"clicks:{feature}"], "entities": {"user_id": USERS}})
    for read in (
        lambda answer: answer.to_dict(),
        lambda answer: answer.to_dicts(),
        lambda answer: answer.values(feature),
        lambda answer: answer.column(feature),
        lambda answer: to_response(request, answer),
    ):
        for users in (USERS, USERS[1:]):
            answer = OnlineReader(client, plan).read([f"clicks:{feature}"], {"user_id": users}, now_us=T0, mode=mode)
            with pytest.raises(CorruptData, match=words):
                read(answer)
    good = OnlineReader(client, plan).read(["clicks"], {"user_id": ["u1"]}, now_us=T0, mode=mode)
    assert good.values(feature) == [[1, 0.5, "n1", [1.0, 0.0], ["a"]][place]]


@pytest.mark.parametrize(("place", "feature"), list(enumerate(["count", "rate", "name", "vector", "tags"])))
def test_a_value_of_another_type_is_shown_as_by_feast_and_refused_when_enforced(
    redis_server: RedisServer, project: str, place: int, feature: str
) -> None:
    client = written(redis_server, project)
    (key, _) = encode_keys(LAYOUT, table(), project)
    client.hset(key, LAYOUT.fields[place], encode_value(ValueType.BOOL, True))
    reader = OnlineReader(client, ReadPlan(project, (LAYOUT,)))
    shown = reader.read(["clicks"], {"user_id": USERS}, now_us=T0, mode=Mode.COMPAT)
    assert shown.to_dict()[feature][0] is True
    answer = reader.read(["clicks"], {"user_id": USERS}, now_us=T0)
    for read in (lambda: answer.to_dict(), lambda: answer.values(feature)):
        with pytest.raises(CorruptData, match=f"feature clicks:{feature}, entity user_id=u1: the stored bytes"):
            read()


def test_a_key_that_is_no_hash_names_its_entity(redis_server: RedisServer, project: str) -> None:
    client = written(redis_server, project)
    (_, key) = encode_keys(LAYOUT, table(), project)
    client.delete(key)
    client.set(key, b"something else")
    with pytest.raises(RedisRefused, match=r"WRONGTYPE .*; asked was for user_id=u2"):
        OnlineReader(client, ReadPlan(project, (LAYOUT,))).read(["clicks"], {"user_id": USERS}, now_us=T0)


def test_after_a_reply_that_came_too_late_nobody_gets_anothers_values(
    redis_factory: Callable[..., RedisServer], project: str
) -> None:
    server = redis_factory()
    written(server, project)
    slow = f"{server.connection_string},socket_timeout=0.1"
    reader = OnlineReader(connect(slow), ReadPlan(project, (LAYOUT,)))

    async def later() -> list[Any]:
        client = connect_async(slow)
        waiting = AsyncOnlineReader(client, ReadPlan(project, (LAYOUT,)))
        server.client().execute_command("CLIENT", "PAUSE", 350)
        with pytest.raises(StackUnavailable, match="did not answer in time"):
            await waiting.read(["clicks"], {"user_id": ["u1"]}, now_us=T0)
        await asyncio.sleep(0.3)
        answers = [await waiting.read(["clicks"], {"user_id": ["u2"]}, now_us=T0) for _ in range(3)]
        await client.aclose()
        return [answer.values("name") for answer in answers]

    server.client().execute_command("CLIENT", "PAUSE", 350)
    with pytest.raises(StackUnavailable, match="did not answer in time"):
        reader.read(["clicks"], {"user_id": ["u1"]}, now_us=T0)
    server.client().ping()  # waits for the end of the pause
    assert [reader.read(["clicks"], {"user_id": ["u2"]}, now_us=T0).values("name") for _ in range(3)] == [["n2"]] * 3
    assert asyncio.run(later()) == [["n2"]] * 3


def feast_store(folder: Path, connection: str) -> FeatureStore:
    store = FeatureStore(
        config=RepoConfig(
            project="bad",
            provider="local",
            registry=str(folder / "registry.pb"),
            online_store=StillpointOnlineStoreConfig(connection_string=connection),
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=FeastType.STRING)
    source = FileSource(path=str(folder / "none.parquet"), timestamp_field="event_timestamp", name="rows")
    fields = [Field(name="count", dtype=Int64), Field(name="rate", dtype=Float64)]
    store.apply([user, FeatureView(name="clicks", entities=[user], ttl=timedelta(0), schema=fields, source=source)])
    return store


FRAME = pd.DataFrame({"user_id": ["u1"], "count": [1], "rate": [0.5], "event_timestamp": [AT]})


def test_feasts_own_calls_say_what_is_wrong_with_redis(
    redis_factory: Callable[..., RedisServer], tmp_path: Path
) -> None:
    server = redis_factory()
    store = feast_store(tmp_path, f"{server.connection_string},socket_timeout=0.3")
    client = server.client()
    store.write_to_online_store("clicks", FRAME)
    read = {"features": ["clicks:count"], "entity_rows": [{"user_id": "u1"}]}

    def write() -> None:
        store.write_to_online_store("clicks", FRAME.assign(event_timestamp=AT + timedelta(days=1)))

    def refusals(words: str, *acts: Callable[[], Any]) -> None:
        for act in acts:
            with pytest.raises(StillpointError, match=f"Redis at 127.0.0.1:{server.port} {words}"):
                act()

    client.config_set("maxmemory", 1)
    refusals("is full .maxmemory reached under noeviction., nothing more is written", write)
    assert store.get_online_features(**read).to_dict()["count"] == [1]
    client.config_set("maxmemory", 0)
    client.replicaof("127.0.0.1", 1)
    refusals("is a read-only replica; point the connection string at the primary", write)
    client.replicaof("NO", "ONE")
    client.execute_command("CLIENT", "PAUSE", 700)
    refusals("did not answer in time", lambda: store.get_online_features(**read))
    server.client().ping()
    key = next(key for key in client.scan_iter() if b"u1" in key)
    field = next(field for field, value in client.hgetall(key).items() if value == encode_value(ValueType.INT64, 1))
    client.hset(key, field, b"\xffjunk")
    with pytest.raises(CorruptData, match="feature clicks:count, entity user_id=u1: "):
        store.get_online_features(**read)
    server.stop()
    refusals("cannot be reached", write, lambda: store.get_online_features(**read))
