"""A fill and a push leave the very same bytes in Redis for the same rows, for any schema and any value."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import redis
from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.utils import _convert_arrow_to_proto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.errors import InvalidInput
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.materialize.sink import open_sink, view_layout
from stillpoint.stores.online import StillpointOnlineStore, StillpointOnlineStoreConfig
from stillpoint.stores.redis.script import ListedRows
from stillpoint.stores.redis.writer import encode_rows, pack_rows
from stillpoint.stores.values.types import NULL_TIMESTAMP

ROWS = 130
"""As many as the writer packs column by column; fewer it encodes one by one."""
US = pa.timestamp("us", tz="UTC")
START = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)

int32, int64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
float32, float64 = st.floats(width=32), st.floats()
text = st.text(st.characters(codec="utf-8"), max_size=40) | st.just("long " * 1000)
whole_seconds = st.integers(-(10**9), 4 * 10**9).map(lambda value: datetime.fromtimestamp(value, tz=UTC))
VALUES: list[tuple[Any, pa.DataType, st.SearchStrategy[Any]]] = [
    (Int32, pa.int32(), int32),
    (Int64, pa.int64(), st.integers(-(2**53), 2**53)),  # Feast's push takes larger ones beside nulls through floats
    (Float32, pa.float32(), float32),
    (Float64, pa.float64(), float64),
    (String, pa.string(), text),
    (Bytes, pa.binary(), st.binary(min_size=1, max_size=300)),  # Feast's push makes a batch of empty ones null
    (Bool, pa.bool_(), st.booleans()),
    (UnixTimestamp, US, whole_seconds),
    (Array(Int32), pa.list_(pa.int32()), st.lists(int32, min_size=1, max_size=5)),
    (Array(Int64), pa.list_(pa.int64()), st.lists(int64, min_size=1, max_size=5)),
    (Array(Float32), pa.list_(pa.float32()), st.lists(float32, min_size=1, max_size=40)),
    (Array(Float64), pa.list_(pa.float64()), st.lists(float64, min_size=1, max_size=5)),
    (Array(String), pa.list_(pa.string()), st.lists(text, min_size=1, max_size=3)),
    (Array(Bytes), pa.list_(pa.binary()), st.lists(st.binary(), min_size=1, max_size=3)),
    (Array(Bool), pa.list_(pa.bool_()), st.lists(st.booleans(), min_size=1, max_size=5)),
]
KEYS: list[tuple[ValueType, Any, pa.DataType, Any]] = [
    (ValueType.STRING, String, pa.string(), lambda row: f"ü{row}" * (1 + row % 90)),
    (ValueType.INT64, Int64, pa.int64(), lambda row: -(2**62) + row),
    (ValueType.INT32, Int32, pa.int32(), lambda row: row - 60),
    (ValueType.BYTES, Bytes, pa.binary(), lambda row: bytes([row, 0, 255])),
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Any], list[Any], pa.Table]:
    """Keys, features and rows of one view; times at any microsecond, created times with gaps or none at all."""
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))
    features = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=6))
    columns: dict[str, Any] = {
        f"k{n}": pa.array([made(row) for row in range(ROWS)], arrow) for n, (_, _, arrow, made) in enumerate(keys)
    }
    for number, (_, arrow, values) in enumerate(features):
        pool = draw(st.lists(st.none() | values, min_size=1, max_size=7))
        columns[f"f{number}"] = pa.array([pool[row % len(pool)] for row in range(ROWS)], arrow)
    spread = draw(st.sampled_from([0, 1, 1_000_000, 10**15]))
    moments = draw(st.lists(st.integers(-spread, min(spread, 1_000_000)), min_size=1, max_size=5))
    event = [START + timedelta(microseconds=moments[row % len(moments)]) for row in range(ROWS)]
    columns["event_timestamp"] = pa.array(event, US)
    lags = draw(st.none() | st.lists(st.none() | st.integers(0, 10**12), min_size=1, max_size=5))
    created = [None] * ROWS if lags is None else [lags[row % len(lags)] for row in range(ROWS)]
    columns["created_timestamp"] = pa.array(
        [None if lag is None else at + timedelta(microseconds=lag) for at, lag in zip(event, created, strict=True)], US
    )
    return keys, features, pa.table(columns)


def view_of(keys: list[Any], features: list[Any]) -> FeatureView:
    schema = [Field(name=f"k{n}", dtype=key[1]) for n, key in enumerate(keys)]
    schema += [Field(name=f"f{n}", dtype=feature[0]) for n, feature in enumerate(features)]
    return FeatureView(
        name="view",
        entities=[Entity(name=f"e{n}", join_keys=[f"k{n}"], value_type=key[0]) for n, key in enumerate(keys)],
        schema=schema,
        ttl=timedelta(days=1),
        source=FileSource(
            path="nowhere.parquet",
            name="source",
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
    )


def config_of(address: str) -> RepoConfig:
    return RepoConfig(
        project="same",
        provider="local",
        registry="memory.pb",
        online_store=StillpointOnlineStoreConfig(connection_string=address),
        entity_key_serialization_version=3,
    )


@pytest.fixture(autouse=True)
def nothing_left_by_others(redis_server: RedisServer) -> None:
    for database in (1, 2):
        redis.Redis(port=redis_server.port, db=database).flushdb()


def dump(server: RedisServer, database: int) -> dict[bytes, dict[bytes, bytes]]:
    client = redis.Redis(port=server.port, db=database)
    keys = client.keys("*")
    with client.pipeline(transaction=False) as together:
        for key in keys:
            together.hgetall(key)
        found = dict(zip(keys, together.execute(), strict=True))
    client.flushdb()
    return found


def without_null_marker(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Feast makes a null timestamp the number -2**63, but only beside one that is not null; a fill of ours stores null."""
    return {name: b"" if value == NULL_TIME else value for name, value in fields.items()}


NULL_TIME = Value(unix_timestamp_val=NULL_TIMESTAMP).SerializeToString()
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@settings(max_examples=8, deadline=None, suppress_health_check=SLOW)
@given(case=tables())
def test_a_fill_leaves_the_bytes_that_a_push_of_the_same_rows_leaves(case: Any, redis_server: RedisServer) -> None:
    keys, features, table = case
    view, store = view_of(keys, features), StillpointOnlineStore()
    addresses = [f"127.0.0.1:{redis_server.port},db={database}" for database in (1, 2)]
    open_sink(config_of(addresses[0]), store, view)(table)
    kinds = {f"k{n}": key[0] for n, key in enumerate(keys)}
    rows = _convert_arrow_to_proto(table, view, kinds)
    StillpointOnlineStore().online_write_batch(config_of(addresses[1]), view, rows, None)
    filled, pushed = dump(redis_server, 1), dump(redis_server, 2)
    assert len(filled) == ROWS
    assert filled == {key: without_null_marker(fields) for key, fields in pushed.items()}


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
@given(case=tables())
def test_many_rows_at_once_are_the_bytes_of_each_row_alone(case: Any) -> None:
    keys, features, table = case
    layout = view_layout(view_of(keys, features))
    alone = encode_rows(layout, table, "same")
    expected = ListedRows.of(alone.keys, [alone.events, alone.created, *alone.values])
    packed = pack_rows(layout, table, "same")
    assert not isinstance(packed, ListedRows)
    assert [packed.key(row) for row in range(ROWS)] == alone.keys
    assert packed.sizes().tolist() == expected.sizes().tolist()
    for first, end in ((0, ROWS), (3, 17), (ROWS - 1, ROWS)):
        assert [bytes(part) for part in packed.parts(first, end)] == list(expected.parts(first, end))
    cut = pa.concat_tables([table.slice(2, 60), table.slice(62)])  # arrays with offsets, in several chunks
    of_cut = pack_rows(layout, cut, "same").parts(0, ROWS - 2)
    assert [bytes(part) for part in of_cut] == list(expected.parts(2, ROWS))
    backwards = np.arange(ROWS)[::-1].copy()
    assert [bytes(part) for part in packed.ordered(backwards).parts(0, 2)] == list(
        expected.ordered(backwards).parts(0, 2)
    )


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("k0", [None, *["u"] * (ROWS - 1)], "view view: join key k0 of row 0 is null; expected STRING"),
        ("f0", ["text"] * ROWS, "feature view:f0, entity k0=u0, row 0: expected DOUBLE, found string"),
        ("event_timestamp", [None] * ROWS, "view view: event_timestamp of row 0 is null"),
    ],
)
def test_many_rows_at_once_are_refused_in_the_words_of_one(column: str, values: list[Any], told: str) -> None:
    view = view_of([KEYS[0]], [VALUES[3]])
    good: dict[str, Any] = {
        "k0": [f"u{row}" for row in range(ROWS)],
        "f0": [0.5] * ROWS,
        "event_timestamp": pa.array([START] * ROWS, US),
    }
    bad = pa.array(values, US) if column == "event_timestamp" else pa.array(values)
    with pytest.raises(InvalidInput, match=told):
        pack_rows(view_layout(view), pa.table(good | {column: bad}), "same")
