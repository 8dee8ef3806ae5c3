"""Stock Feast's Redis store and ours leave the same bytes, and read each other's, for any schema and any value."""

import asyncio
import decimal
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
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
    ScalarMap,
    Set,
    String,
    Struct,
    TimeUuid,
    UnixTimestamp,
    Uuid,
    ZonedTimestamp,
)  # fmt: skip
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)

int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
seconds = st.integers(-(10**9), 4 * 10**9)
float32 = st.floats(width=32, allow_nan=False)
float64 = st.floats(allow_nan=False)
text = st.text(st.characters(codec="utf-8"), max_size=40)
times = seconds.map(lambda value: datetime.fromtimestamp(value, tz=UTC))
decimals = st.decimals(allow_nan=False, allow_infinity=False).map(lambda value: decimal.Decimal(str(value)))
maps = st.dictionaries(text, st.one_of(st.none(), int64, float64, text, st.booleans()), max_size=4)
VALUES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Int32, int32), (Int64, int64), (Float32, float32), (Float64, float64), (String, text), (Bytes, st.binary()),
    (Bool, st.booleans()), (UnixTimestamp, times), (Uuid, st.uuids()), (TimeUuid, st.uuids()),
    (Decimal, decimals), (Json, maps), (Map, maps), (Struct({"a": Int64}), st.fixed_dictionaries({"a": int64})),
    (Array(Int32), st.lists(int32, min_size=1, max_size=5)), (Array(Int64), st.lists(int64, min_size=1, max_size=5)),
    (Array(Float32), st.lists(float32, min_size=1, max_size=40)), (Array(Float64), st.lists(float64, min_size=1, max_size=5)),
    (Array(String), st.lists(text, min_size=1, max_size=5)), (Array(Bytes), st.lists(st.binary(), min_size=1, max_size=3)),
    (Array(Bool), st.lists(st.booleans(), min_size=1, max_size=5)), (Array(UnixTimestamp), st.lists(times, min_size=1, max_size=3)),
    (Array(Uuid), st.lists(st.uuids(), min_size=1, max_size=3)), (Array(Decimal), st.lists(decimals, min_size=1, max_size=3)),
    (Array(Map), st.lists(maps, min_size=1, max_size=3)), (Array(Array(Int64)), st.lists(st.lists(int64, min_size=1, max_size=3), min_size=1, max_size=3)),
    (Set(Int64), st.sets(int64, min_size=1, max_size=5)), (Set(String), st.sets(text, min_size=1, max_size=5)),
    (Set(Bool), st.sets(st.booleans(), min_size=1)), (Set(Float64), st.sets(float64, min_size=1, max_size=3)),
    (Set(Uuid), st.sets(st.uuids(), min_size=1, max_size=3)), (Set(UnixTimestamp), st.sets(times, min_size=1, max_size=3)),
    (ScalarMap, st.dictionaries(int64, text, min_size=1, max_size=3)),
    (ZonedTimestamp, times),
]  # fmt: skip
KEYS = [
    (ValueType.STRING, String, text),
    (ValueType.INT64, Int64, int64),
    (ValueType.INT32, Int32, int32),
    (ValueType.BYTES, Bytes, st.binary(min_size=1)),
    (
        ValueType.UNIX_TIMESTAMP,
        UnixTimestamp,
        seconds.filter(bool).map(lambda value: datetime.fromtimestamp(value, tz=UTC)),
    ),
]


@st.composite
def cases(draw: st.DrawFn) -> Any:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    views = draw(st.lists(st.lists(st.sampled_from(VALUES), min_size=1, max_size=6), min_size=1, max_size=3))
    key_values = draw(st.lists(st.tuples(*(strategy for *_, strategy in keys)), min_size=1, max_size=4, unique=True))
    rows = [[tuple(draw(st.none() | strategy) for _, strategy in view) for _ in key_values] for view in views]
    offsets = [draw(st.integers(0, 10**12)) for _ in views]
    return keys, views, key_values, rows, offsets


class Pair:
    """One project in stock Feast (database 1) and in our store (database 2)."""

    def __init__(self, folder: Path, server: RedisServer, project: str = "pair") -> None:
        address = f"127.0.0.1:{server.port}"
        self.clients = [redis.Redis(port=server.port, db=number) for number in (1, 2)]
        for client in self.clients:
            client.flushdb()
        self.address = f"{address},db=2"
        common = {"project": project, "provider": "local", "entity_key_serialization_version": 3}
        self.stock = FeatureStore(
            config=RepoConfig(
                **common,
                registry=str(folder / f"{uuid.uuid4().hex}.pb"),
                online_store=RedisOnlineStoreConfig(connection_string=f"{address},db=1"),
            )
        )
        self.ours = FeatureStore(
            config=RepoConfig(
                **common,
                registry=str(folder / f"{uuid.uuid4().hex}.pb"),
                online_store=StillpointOnlineStoreConfig(connection_string=self.address),
            )
        )

    def apply(self, make: Any) -> None:
        for store in (self.stock, self.ours):
            store.apply(make())

    def write(self, store: FeatureStore, view: str, rows: list[Any]) -> None:
        store._get_provider().online_write_batch(store.config, store.get_feature_view(view), rows, None)

    def dump(self, client: Any) -> dict[bytes, dict[bytes, bytes]]:
        return {
            key: {name: value for name, value in client.hgetall(key).items() if not name.startswith(b"_cts:")}
            for key in client.keys("*")
        }


def definitions(keys: list[Any], views: list[Any]) -> list[Any]:
    entities = [Entity(name=f"e{n}", join_keys=[f"k{n}"], value_type=kind) for n, (kind, _, _) in enumerate(keys)]
    made: list[Any] = []
    for number, fields in enumerate(views):
        made.append(
            FeatureView(
                name=f"v{number}",
                entities=entities,
                ttl=timedelta(hours=1),
                schema=[Field(name=f"k{n}", dtype=dtype) for n, (_, dtype, _) in enumerate(keys)]
                + [Field(name=f"v{number}_f{n}", dtype=dtype) for n, (dtype, _) in enumerate(fields)],
                source=FileSource(path="nowhere.parquet", timestamp_field="event_timestamp", name=f"s{number}"),
            )
        )
    return [*entities, *made, FeatureService(name="all", features=list(made))]


def proto_rows(
    keys: list[Any], view: list[Any], key_values: list[Any], rows: list[Any], number: int, at: datetime
) -> list[Any]:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey

    columns = [
        python_values_to_proto_values([row[n] for row in rows], dtype.to_value_type())
        for n, (dtype, _) in enumerate(view)
    ]
    result = []
    for index, values in enumerate(key_values):
        key = EntityKey(
            join_keys=[f"k{n}" for n in range(len(keys))],
            entity_values=[python_values_to_proto_values([values[n]], kind)[0] for n, (kind, _, _) in enumerate(keys)],
        )
        values = {f"v{number}_f{n}": column[index] for n, column in enumerate(columns)}
        result.append((key, values, at, at + timedelta(seconds=1)))
    return result


def same(left: Any, right: Any) -> bool:
    return shape(left) == shape(right)


def shape(value: Any) -> str:
    """A value with its types, so that 1, 1.0 and True differ and NaN equals NaN; sets in one order."""
    if isinstance(value, (set, frozenset)):
        return f"set{sorted(map(shape, value))}"
    if isinstance(value, list):
        return f"list{[shape(item) for item in value]}"
    if isinstance(value, dict):
        return f"dict{sorted((shape(key), shape(item)) for key, item in value.items())}"
    return f"{type(value).__name__}:{value!r}"


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(case=cases())
def test_any_schema_and_value_is_the_same_in_bytes_and_read_in_both_directions(
    case: Any, tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer
) -> None:
    keys, views, key_values, rows, offsets = case
    pair = Pair(tmp_path_factory.mktemp("pair"), redis_server)
    pair.apply(lambda: definitions(keys, views))
    for number, view in enumerate(views):
        at = NOW - timedelta(microseconds=offsets[number])
        data = proto_rows(keys, view, key_values, rows[number], number, at)
        for store in (pair.stock, pair.ours):
            pair.write(store, f"v{number}", data)
    stock, ours = pair.dump(pair.clients[0]), pair.dump(pair.clients[1])
    assert stock == ours

    entities = {f"k{n}": [values[n] for values in key_values] + [key_values[0][n]] for n in range(len(keys))}
    expected = pair.stock.get_online_features(pair.stock.get_feature_service("all"), entities)
    answered = pair.ours.get_online_features(pair.ours.get_feature_service("all"), entities)
    assert proto_columns(answered) == proto_columns(expected)
    awaited = asyncio.run(later(pair.ours, entities))
    assert proto_columns(awaited) == proto_columns(expected)

    plan = compile_plan(pair.ours)
    reader = OnlineReader(connect(pair.address), plan)
    now_us = int(NOW.timestamp()) * 1_000_000
    columns = reader.read(
        "all", {name: list(values) for name, values in entities.items()}, now_us=now_us, mode=Mode.COMPAT
    )
    read, wanted = columns.to_dict(), expected.to_dict()
    assert columns.names == [f"v{number}_f{n}" for number, view in enumerate(views) for n in range(len(view))]
    for name in columns.names:
        assert same(read[name], wanted[name]), name
        assert same(columns.values(name), wanted[name]), name
    # So early that nothing is too old yet, and nothing is taken for one of the future.
    early = OnlineReader(connect(pair.address), plan, future_tolerance=None)
    fresh = early.read("all", columns.entities, now_us=0).to_dict()
    for name in columns.names:
        assert same(fresh[name], wanted[name]), name


async def later(store: FeatureStore, entities: dict[str, Any]) -> Any:
    response = await store.get_online_features_async(store.get_feature_service("all"), entities)
    await store._get_provider().online_store.close()
    return response


def proto_columns(response: Any) -> dict[str, Any]:
    vectors = zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
    return {name: vector.SerializeToString(deterministic=True) for name, vector in vectors}


def test_an_unknown_entity_is_answered_as_by_feast_and_not_found_when_enforced(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    pair = Pair(tmp_path, redis_server)
    pair.apply(lambda: definitions(KEYS[:1], [[VALUES[1]]]))
    entities = {"k0": ["nobody"]}
    refs = ["v0:v0_f0"]
    expected = pair.stock.get_online_features(refs, entities)
    assert proto_columns(pair.ours.get_online_features(refs, entities)) == proto_columns(expected)
    reader = OnlineReader(connect(pair.address), compile_plan(pair.ours))
    assert reader.read(refs, entities, now_us=0, mode=Mode.COMPAT).status("v0_f0").tolist() == [1]
    assert reader.read(refs, entities, now_us=0).status("v0_f0").tolist() == [3]


def test_a_correction_at_the_same_event_time_wins_and_feast_reads_it(tmp_path: Path, redis_server: RedisServer) -> None:
    pair = Pair(tmp_path, redis_server)
    pair.apply(lambda: definitions(KEYS[:1], [[VALUES[1]]]))
    row = proto_rows(KEYS[:1], [VALUES[1]], [("u1",)], [(1,)], 0, NOW)
    correction = proto_rows(KEYS[:1], [VALUES[1]], [("u1",)], [(2,)], 0, NOW)
    corrected = [(key, values, event, created + timedelta(seconds=5)) for key, values, event, created in correction]
    for rows in (row, corrected, row):
        pair.write(pair.ours, "v0", rows)
    assert pair.ours.get_online_features(["v0:v0_f0"], {"k0": ["u1"]}).to_dict()["v0_f0"] == [2]


def test_a_removed_view_takes_its_fields_and_no_other_projects_keys(tmp_path: Path, redis_server: RedisServer) -> None:
    mine, shadow = Pair(tmp_path, redis_server, "green"), Pair(tmp_path, redis_server, "shadow_green")
    for pair in (mine, shadow):
        pair.apply(lambda: definitions(KEYS[:1], [[VALUES[1]], [VALUES[4]]]))
        for number, value in ((0, (7,)), (1, ("text",))):
            kind = VALUES[1] if number == 0 else VALUES[4]
            pair.write(
                pair.ours, f"v{number}", proto_rows(KEYS[:1], [kind], [("u1",), ("u2",)], [value] * 2, number, NOW)
            )
    before = mine.dump(mine.clients[1])
    service, view = mine.ours.get_feature_service("all"), mine.ours.get_feature_view("v0")
    mine.ours.apply([], objects_to_delete=[service, view], partial=False)
    after = mine.dump(mine.clients[1])
    assert {key: fields for key, fields in after.items() if b"shadow_green" in key} == {
        key: fields for key, fields in before.items() if b"shadow_green" in key
    }
    assert all(b"_ts:v0" not in fields and b"_ts:v1" in fields for key, fields in after.items() if b"shadow" not in key)
    mine.ours.teardown()
    left = mine.dump(mine.clients[1])
    assert left
    assert all(b"shadow_green" in key for key in left)
