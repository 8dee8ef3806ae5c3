"""What the join answers, a fill fills, a push writes and a read returns alike: over Feast's value types, and where a column
holds other values than declared. The decisions stand as a table in `docs/why-not-stock-feast.md`.
"""

import datetime as dt
import itertools
import json
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
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

from stillpoint.errors import InvalidInput
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.offline import StillpointOfflineStoreConfig
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.redis.connection import connect

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
US = pa.timestamp("us", tz="UTC")

int32, int64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
float32, float64 = st.floats(width=32), st.floats()
text = st.text(st.characters(codec="utf-8"), max_size=12)
moments = st.integers(-(10**15), 4 * 10**15).map(
    lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(0, 0, micros)
)
uuids = st.uuids().map(str)
numbers = st.decimals(-(10**6), 10**6, places=2)
maps = st.dictionaries(text, int64, max_size=3)


def lists(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=4)


def sets(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(items, max_size=4, unique=True)


KINDS: list[tuple[Any, pa.DataType, st.SearchStrategy[Any]]] = [
    (Int32, pa.int32(), int32),
    (Int64, pa.int64(), int64),
    (Float32, pa.float32(), float32),
    (Float64, pa.float64(), float64),
    (Bool, pa.bool_(), st.booleans()),
    (String, pa.string(), text),
    (Bytes, pa.binary(), st.binary(max_size=9)),
    (UnixTimestamp, US, moments),
    (ZonedTimestamp, US, moments),
    (Uuid, pa.string(), uuids),
    (TimeUuid, pa.string(), uuids),
    (Decimal, pa.decimal128(12, 2), numbers),
    (Json, pa.string(), maps.map(json.dumps)),
    (Map, pa.map_(pa.string(), pa.int64()), maps),
    (Struct({"a": Int64, "b": String}), pa.struct([("a", pa.int64()), ("b", pa.string())]), st.fixed_dictionaries({"a": int64, "b": text})),
    (ScalarMap, pa.map_(pa.int64(), pa.string()), st.dictionaries(int64, text, min_size=1, max_size=3)),
    (Array(Int32), pa.list_(pa.int32()), lists(int32)),
    (Array(Int64), pa.list_(pa.int64()), lists(int64)),
    (Array(Float32), pa.list_(pa.float32()), lists(float32)),
    (Array(Float64), pa.list_(pa.float64()), lists(float64)),
    (Array(Bool), pa.list_(pa.bool_()), lists(st.booleans())),
    (Array(String), pa.list_(pa.string()), lists(text)),
    (Array(Bytes), pa.list_(pa.binary()), lists(st.binary(max_size=5))),
    (Array(UnixTimestamp), pa.list_(US), lists(moments)),
    (Array(Uuid), pa.list_(pa.string()), lists(uuids)),
    (Array(Decimal), pa.list_(pa.decimal128(12, 2)), lists(numbers)),
    (Array(Map), pa.list_(pa.map_(pa.string(), pa.int64())), lists(maps)),
    (Array(Array(Int64)), pa.list_(pa.list_(pa.int64())), lists(st.lists(int64, min_size=1, max_size=3))),
    (Set(Int64), pa.list_(pa.int64()), sets(int64)),
    (Set(String), pa.list_(pa.string()), sets(text)),
    (Set(Float64), pa.list_(pa.float64()), sets(st.floats(allow_nan=False).filter(bool))),
    (Set(Bool), pa.list_(pa.bool_()), sets(st.booleans())),
    (Set(Uuid), pa.list_(pa.string()), sets(uuids)),
    (Set(UnixTimestamp), pa.list_(US), sets(moments.map(lambda moment: moment.replace(microsecond=0)))),
]  # fmt: skip


def plain(dtype: Any, value: Any) -> Any:
    """Return a value as it can be compared: whole seconds, dicts, sorted sets, texts of UUIDs, None for what is missing."""
    if isinstance(dtype, Set):
        return None if value is None else sorted((plain(dtype.base_type, item) for item in value), key=repr)
    if isinstance(dtype, Array):
        return None if value is None else [plain(dtype.base_type, item) for item in value]
    if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NaT:
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0, fold=0)
    if dtype is Json:
        return json.loads(value) if isinstance(value, str) else value
    if dtype in (Map, ScalarMap) or isinstance(dtype, Struct):
        return dict(value)
    return str(value) if isinstance(value, uuid.UUID | Number) else value


class World:
    """A view over a file, for as many features as are given."""

    def __init__(
        self,
        folder: Path,
        address: str,
        features: dict[str, tuple[Any, pa.DataType]],
        key: tuple[ValueType, Any, pa.DataType] = (ValueType.STRING, String, pa.string()),
    ) -> None:
        self.features, self.address = features, address
        self.names = list(features)
        self.path = folder / "rows.parquet"
        self.store = FeatureStore(
            config=RepoConfig(
                project=f"agree_{uuid.uuid4().hex[:8]}",
                provider="local",
                registry=str(folder / "registry.pb"),
                online_store=StillpointOnlineStoreConfig(connection_string=address),
                offline_store=StillpointOfflineStoreConfig(),
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
                entity_key_serialization_version=3,
            )
        )
        self.schema = pa.schema(
            [("user_id", key[2]), *((name, kind) for name, (_, kind) in features.items()), ("event_timestamp", US)]
        )
        pq.write_table(self.schema.empty_table(), self.path)
        user = Entity(name="user", join_keys=["user_id"], value_type=key[0])
        source = FileSource(path=str(self.path), name="rows", timestamp_field="event_timestamp")
        schema = [Field(name="user_id", dtype=key[1])]
        schema += [Field(name=name, dtype=dtype) for name, (dtype, _) in features.items()]
        stream = PushSource(name="push", batch_source=source)
        self.store.apply(
            [user, FeatureView(name="view", entities=[user], ttl=timedelta(0), schema=schema, source=stream)]
        )

    def table(self, keys: list[Any], columns: dict[str, list[Any]]) -> pa.Table:
        data = {"user_id": keys, **columns, "event_timestamp": [AT] * len(keys)}
        return pa.table({field.name: pa.array(data[field.name], field.type) for field in self.schema}, self.schema)

    def joined(self, keys: Any) -> dict[str, list[Any]]:
        """Return the features of the join, whose spine has the keys as a list or as an Arrow array."""
        times = pa.array([AT + timedelta(days=1)] * len(keys), US)
        spine = pa.table({"user_id": keys if isinstance(keys, pa.Array) else pa.array(keys), "event_timestamp": times})
        found = self.store.get_historical_features(spine, [f"view:{name}" for name in self.names]).to_arrow()
        return {
            name: [plain(self.features[name][0], value) for value in found[name].to_pylist()] for name in self.names
        }

    def read(self, keys: list[Any]) -> dict[str, list[Any]]:
        answer = self.store.get_online_features([f"view:{name}" for name in self.names], {"user_id": keys}).to_dict()
        return {name: [plain(self.features[name][0], value) for value in answer[name]] for name in self.names}

    def fill(self) -> None:
        self.store.materialize(AT - timedelta(days=1), AT + timedelta(days=1))

    def empty(self) -> None:
        client = connect(self.address)
        for key in client.keys("*" + self.store.project):
            client.delete(key)


def answers(world: World, keys: list[Any], columns: dict[str, list[Any]], frame: pd.DataFrame) -> Iterator[Any]:
    """Yield what each path makes of the same rows: its values by feature, or the refusal."""

    def join() -> Any:
        pq.write_table(world.table(keys, columns), world.path)
        return world.joined(keys)

    def fill() -> Any:
        world.empty()
        world.fill()
        return world.read(keys)

    def push() -> Any:
        world.empty()
        pq.write_table(world.schema.empty_table(), world.path)
        world.store.push("push", frame, to=PushMode.ONLINE_AND_OFFLINE)
        return world.read(keys)

    def join_pushed() -> Any:
        return world.joined(keys)

    for path in (join, fill, push, join_pushed):
        try:
            yield path()
        except InvalidInput as error:
            yield error
            if path is push:
                assert not any(value is not None for values in world.read(keys).values() for value in values)
                assert pq.read_metadata(world.path).num_rows == 0
                return


MAPS = [kind for kind in KINDS if kind[0] in (Map, ScalarMap, Array(Map))]
OTHERS = [kind for kind in KINDS if kind not in MAPS]


@pytest.mark.parametrize(
    ("kinds", "paths"), [(OTHERS, 4), (MAPS, 2)], ids=["join-fill-push-read", "maps-join-fill-read"]
)  # pandas and Arrow make a struct of a frame's dicts before a push reaches a store: maps are not pushed into a column of maps
@settings(
    max_examples=6,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_every_value_of_every_type_is_the_same_on_every_path(
    data: st.DataObject,
    kinds: Any,
    paths: int,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    features = {f"f{number}": (dtype, kind) for number, (dtype, kind, _) in enumerate(kinds)}
    world = World(tmp_path_factory.mktemp("w"), redis_server.connection_string, features)
    keys = ["u0", "u1", "ü"]
    columns = {
        f"f{number}": [data.draw(st.none() | values, label=str(dtype)) for _ in keys]
        for number, (dtype, _, values) in enumerate(kinds)
    }
    frame = pd.DataFrame(
        {"user_id": keys, "event_timestamp": [AT] * 3}
        | {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    )
    wanted = {name: [plain(features[name][0], value) for value in values] for name, values in columns.items()}
    for found in itertools.islice(answers(world, keys, columns, frame), paths):
        if isinstance(found, Exception):
            raise found
        for name in columns:
            assert found[name] == wanted[name], (name, features[name])


REFUSED = object()
BIG = 2**53 + 1
UUID = uuid.UUID("0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b")
DECIDED: list[tuple[str, Any, pa.DataType, Any, Any]] = [
    ("a whole number of another width", Int64, pa.int32(), 7, 7),
    ("a whole number that fits", Int32, pa.int64(), 7, 7),
    ("a whole number that does not fit", Int32, pa.int64(), 3_000_000_000, REFUSED),
    ("a whole float", Int64, pa.float64(), 7.0, 7),
    ("a fraction", Int64, pa.float64(), 1.5, REFUSED),
    ("NaN for a whole number", Int64, pa.float64(), float("nan"), None),
    ("infinity for a whole number", Int64, pa.float64(), float("inf"), REFUSED),
    ("a whole decimal", Int64, pa.decimal128(9, 2), Number("7.00"), 7),
    ("a decimal fraction", Int64, pa.decimal128(9, 2), Number("1.75"), REFUSED),
    ("a whole number for a float", Float64, pa.int64(), 7, 7.0),
    ("a whole number that no float holds", Float64, pa.int64(), BIG, REFUSED),
    ("a double for a Float32", Float32, pa.float64(), 0.1, 0.10000000149011612),
    ("a double beyond Float32", Float32, pa.float64(), 1e300, REFUSED),
    ("NaN for a float", Float64, pa.float64(), float("nan"), None),
    ("a flag for a number", Int64, pa.bool_(), True, 1),
    ("one for a flag", Bool, pa.int64(), 1, True),
    ("zero for a flag", Bool, pa.float64(), 0.0, False),
    ("NaN for a flag", Bool, pa.float64(), float("nan"), None),
    ("two for a flag", Bool, pa.int64(), 2, REFUSED),
    ("text for a number", Int64, pa.string(), "7", REFUSED),
    ("a number for text", String, pa.int64(), 7, REFUSED),
    ("a flag for text", String, pa.bool_(), True, REFUSED),
    ("a date for text", String, pa.date32(), dt.date(2026, 3, 1), "2026-03-01"),
    ("a date for a time", UnixTimestamp, pa.date32(), dt.date(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC)),
    ("seconds for a time", UnixTimestamp, pa.int64(), 60, datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
    ("NaN for a time", UnixTimestamp, pa.float64(), float("nan"), None),
    ("a time without a zone", UnixTimestamp, pa.timestamp("ms"), datetime(2026, 3, 1), datetime(2026, 3, 1, tzinfo=UTC)),
    ("a time before 1970", UnixTimestamp, US, datetime(1969, 12, 31, 23, 59, 58, 500_000, UTC), datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC)),
    ("null among texts", Array(String), pa.list_(pa.string()), ["a", None], REFUSED),
    ("null among flags", Array(Bool), pa.list_(pa.bool_()), [True, None], REFUSED),
    ("null among whole numbers", Array(Int64), pa.list_(pa.int64()), [1, None], REFUSED),
    ("null among bytes", Array(Bytes), pa.list_(pa.binary()), [b"a", None], REFUSED),
    ("null in a set", Set(Int64), pa.list_(pa.int64()), [1, None], REFUSED),
    ("null among floats", Array(Float64), pa.list_(pa.float64()), [1.5, None], [1.5, None]),
    ("null among times", Array(UnixTimestamp), pa.list_(US), [AT, None], [AT, None]),
    ("narrow numbers in a list", Array(Int64), pa.list_(pa.int16()), [1, 2], [1, 2]),
    ("a fraction in a list", Array(Int64), pa.list_(pa.float64()), [1.0, 1.5], REFUSED),
    ("a UUID of 16 bytes for text", String, pa.binary(16), UUID.bytes, REFUSED),
    ("an empty list", Array(String), pa.list_(pa.string()), [], []),
    ("an empty text", String, pa.string(), "", ""),
    ("empty bytes", Bytes, pa.binary(), b"", b""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "kind", "value", "wanted"), [case[1:] for case in DECIDED], ids=[case[0] for case in DECIDED]
)
def test_what_is_not_as_declared_is_decided_once(
    dtype: Any, kind: pa.DataType, value: Any, wanted: Any, redis_server: RedisServer, tmp_path: Path
) -> None:
    world = World(tmp_path, redis_server.connection_string, {"f": (dtype, kind)})
    frame = pd.DataFrame(
        {"user_id": ["u0", "u1"], "f": pd.Series([None, value], dtype=object), "event_timestamp": [AT] * 2}
    )
    for found in answers(world, ["u0", "u1"], {"f": [None, value]}, frame):
        if wanted is REFUSED:
            assert isinstance(found, InvalidInput), found
            assert "view" in str(found)
            assert "row 1" in str(found) or "is declared" in str(found) or "another kind" in str(found)
        else:
            if isinstance(found, Exception):
                raise found
            assert found == {"f": [None, wanted]}


@pytest.mark.parametrize(
    ("key", "stored", "asked"),
    [
        ((ValueType.STRING, String, pa.date32()), [dt.date(2026, 3, 1), None], "2026-03-01"),
        ((ValueType.STRING, String, pa.string()), ["", None], ""),
        ((ValueType.INT64, Int64, pa.float64()), [1.0, float("nan")], 1),
        ((ValueType.INT64, Int64, pa.int16()), [1, None], 1),
        ((ValueType.INT32, Int32, pa.decimal128(5, 1)), [Number("1.0"), None], 1),
    ],
    ids=["date as text", "empty text", "NaN beside a float", "narrow", "decimal"],
)
def test_a_key_of_another_type_means_the_same_entity_and_a_missing_one_nobody(
    key: Any, stored: list[Any], asked: Any, redis_server: RedisServer, tmp_path: Path
) -> None:
    world = World(tmp_path, redis_server.connection_string, {"f": (Int64, pa.int64())}, key)
    pq.write_table(world.table(stored, {"f": [7, 8]}), world.path)
    assert world.joined([asked]) == {"f": [7]}
    world.fill()
    assert world.read([asked]) == {"f": [7]}
    assert len(connect(world.address).keys("*" + world.store.project)) == 1


def test_a_stored_nan_is_null_and_not_a_number_in_the_join_too(redis_server: RedisServer, tmp_path: Path) -> None:
    kinds = {"single": (Float32, pa.float32()), "double": (Float64, pa.float64()), "many": (Array(Float64), pa.list_(pa.float64()))}  # fmt: skip
    world = World(tmp_path, redis_server.connection_string, kinds)
    nan = float("nan")
    pq.write_table(world.table(["u0", "u1"], {"single": [nan, 1.5], "double": [nan, 1.5], "many": [[nan, 1.5]] * 2}), world.path)  # fmt: skip
    spine = pa.table({"user_id": ["u0", "u1"], "event_timestamp": pa.array([AT] * 2, US)})
    found = world.store.get_historical_features(spine, [f"view:{name}" for name in kinds]).to_arrow()
    assert found["single"].to_pylist() == found["double"].to_pylist() == [None, 1.5]
    assert [math.isnan(row[0]) for row in found["many"].to_pylist()] == [True, True]
    world.fill()
    answer = world.store.get_online_features([f"view:{name}" for name in kinds], {"user_id": ["u0", "u1"]}).to_dict()
    assert answer["single"] == answer["double"] == [None, 1.5]


@pytest.mark.parametrize("stored", [pa.date32(), pa.string()], ids=["stored as dates", "stored as text"])
def test_a_date_asks_for_a_text_key_in_a_spine_as_in_a_read(
    stored: pa.DataType, redis_server: RedisServer, tmp_path: Path
) -> None:
    days = [dt.date(2026, 3, 1), dt.date(2026, 3, 2)]
    kept = days if pa.types.is_date(stored) else [str(day) for day in days]
    world = World(tmp_path, redis_server.connection_string, {"f": (Int64, pa.int64())}, (ValueType.STRING, String, stored))  # fmt: skip
    pq.write_table(world.table(kept, {"f": [7, 8]}), world.path)
    asked = [*days, dt.date(2026, 3, 3)]
    assert world.joined(asked) == world.joined([str(day) for day in asked]) == {"f": [7, 8, None]}
    frame = pd.DataFrame({"user_id": asked, "event_timestamp": [AT] * 3})
    found = world.store.get_historical_features(frame, ["view:f"]).to_arrow()
    assert found["f"].to_pylist() == [7, 8, None]
    world.fill()
    assert world.read(asked) == world.read([str(day) for day in asked]) == {"f": [7, 8, None]}


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_a_uuid_asks_for_a_text_key_in_a_spine_as_in_a_read(
    kind: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    world = World(tmp_path, redis_server.connection_string, {"f": (Int64, pa.int64())})
    pq.write_table(world.table([str(UUID)], {"f": [7]}), world.path)
    asked = [UUID, uuid.UUID(int=1), None]
    spine: Any = pd.DataFrame({"user_id": pd.Series(asked, dtype=object), "event_timestamp": [AT] * 3})
    if kind == "arrow":
        stored = pa.array([None if one is None else one.bytes for one in asked], pa.binary(16))
        keys = pa.ExtensionArray.from_storage(pa.uuid(), stored)
        spine = pa.table({"user_id": keys, "event_timestamp": pa.array([AT] * 3, US)})
    found = world.store.get_historical_features(spine, ["view:f"]).to_arrow()
    assert found["f"].to_pylist() == [7, None, None]
    world.fill()
    assert world.read(asked[:2]) == {"f": [7, None]}
