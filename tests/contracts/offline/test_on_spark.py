"""Executors join and fill exactly as one machine does, on data with every trap."""

import contextlib
import io
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RepoConfig
from feast.types import Array, Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.utils import _convert_arrow_to_proto

from stillpoint.stores.history.join import JoinLimits, join_history
from stillpoint.stores.history.latest import Pull
from stillpoint.stores.history.on_spark import fill_on_spark, join_on_spark
from stillpoint.stores.history.sources import S3Access, open_path
from stillpoint.stores.history.spine import read_spine
from stillpoint.stores.history.types import request_types
from stillpoint.stores.history.views import JoinKey, RequestedFeature, ViewRequest

NOW = datetime(2026, 3, 10, tzinfo=UTC)
US = pa.timestamp("us", tz="UTC")


def write_traps(folder: Path) -> None:
    """Write sources with ties, replays, null keys, values equal in time and creation, and keys that look like pairs."""
    random = np.random.default_rng(11)
    count = 6_000
    event = [NOW - timedelta(seconds=int(s)) for s in random.integers(0, 86_400, count)]
    lag = [timedelta(seconds=int(s)) for s in random.choice([0, 0, 5, 60, 7_200], count)]
    users = [None if n % 97 == 0 else f"u{n}" for n in random.integers(0, 300, count)]
    table = pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "event_timestamp": pa.array(event, US),
            "created_timestamp": pa.array([e + one for e, one in zip(event, lag, strict=True)], US),
            "plays": pa.array([None if n % 50 == 0 else n for n in range(count)], pa.int64()),
            "rate": random.random(count),
        }
    )
    replayed = pa.concat_tables([table, table.slice(100, 400), table.slice(0, 50)])
    folder.mkdir()
    for number in range(3):  # several files, so that chunks are read by several tasks
        pq.write_table(replayed.slice(number * 2_150, 2_150), folder / f"part-{number}.parquet", row_group_size=300)
    pairs = pa.table(
        {
            "user_id": ["u1", "u11", "u1", "u2"] * 2,
            "content_id": ["1c", "c", "1c", "c"] * 2,
            "event_timestamp": pa.array([NOW - timedelta(hours=h) for h in (5, 5, 4, 4, 3, 3, 2, 2)], US),
            "score": [float(n) for n in range(8)],
        }
    )
    pq.write_table(pairs, folder.with_name("pairs.parquet"))
    pq.write_table(kinds_table(), folder.with_name("kinds.parquet"), row_group_size=50)


KINDS: list[tuple[Any, pa.DataType, Any]] = [
    (Int32, pa.int32(), lambda n: n - 70),
    (Int64, pa.int64(), lambda n: n << 40),
    (Float32, pa.float32(), lambda n: n / 7),
    (Float64, pa.float64(), lambda n: -n / 7),
    (Bool, pa.bool_(), lambda n: n % 3 == 1),
    (String, pa.string(), lambda n: "ü" * (n * 5)),
    (Bytes, pa.binary(), lambda n: bytes([n, 0, 255])),
    (Array(Int32), pa.list_(pa.int32()), lambda n: [n, -n]),
    (Array(Int64), pa.list_(pa.int64()), lambda n: [n << 40]),
    (Array(Float32), pa.list_(pa.float32()), lambda n: [n / 7] * (1 + n % 3)),
    (Array(Float64), pa.list_(pa.float64()), lambda n: [n / 7, 0.5]),
    (Array(String), pa.list_(pa.string()), lambda n: ["a", "b" * n]),
    (Array(Bytes), pa.list_(pa.binary()), lambda n: [bytes([n])]),
    (Array(Bool), pa.list_(pa.bool_()), lambda n: [n % 2 == 0, True]),
    (UnixTimestamp, US, lambda n: NOW - timedelta(seconds=n)),
]
"""Every type that Parquet and Feast's Redis store both hold. The last has no nulls: see `test_online_same_bytes`."""


def kinds_table() -> pa.Table:
    """Return one row for each of 140 users, with values of every type and nulls among them."""
    columns: dict[str, Any] = {
        "user_id": [f"k{n}" for n in range(140)],
        "event_timestamp": pa.array([NOW - timedelta(seconds=n, microseconds=n % 4) for n in range(140)], US),
        "created_timestamp": pa.array(
            [None if n % 9 == 0 else NOW + timedelta(microseconds=n) for n in range(140)], US
        ),
    }
    for place, (dtype, arrow, made) in enumerate(KINDS):
        null = 0 if dtype is UnixTimestamp else 5 + place
        columns[f"kind{place}"] = pa.array([None if null and n % null == 0 else made(n) for n in range(140)], arrow)
    return pa.table(columns)


def open_store(folder: Path, server: Any, name: str, parts: int | None) -> FeatureStore:
    offline = {"type": "stillpoint.stores.offline.StillpointOfflineStore", "chunk_rows": 500, "created_cutoff": True}
    store = FeatureStore(
        config=RepoConfig(
            project=name,
            provider="local",
            registry=str(folder / f"{name}.pb"),
            online_store={
                "type": "stillpoint.stores.online.StillpointOnlineStore",
                "connection_string": server.connection_string,
            },
            offline_store={**offline, **({"spark_parts": parts} if parts else {})},
            batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    content = Entity(name="content", join_keys=["content_id"], value_type=ValueType.STRING)
    times = {"timestamp_field": "event_timestamp"}
    taste = FeatureView(
        name="taste",
        entities=[user],
        ttl=timedelta(hours=6),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="plays", dtype=Int64),
            Field(name="rate", dtype=Float64),
        ],
        source=FileSource(path=str(folder / "taste"), created_timestamp_column="created_timestamp", **times),
    )
    pair = FeatureView(
        name="pair",
        entities=[user, content],
        ttl=timedelta(hours=2),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="content_id", dtype=String),
            Field(name="score", dtype=Float64),
        ],
        source=FileSource(path=str(folder / "pairs.parquet"), **times),
    )
    kinds = FeatureView(
        name="kinds",
        entities=[user],
        ttl=timedelta(hours=2),
        schema=[
            Field(name="user_id", dtype=String),
            *(Field(name=f"kind{place}", dtype=kind[0]) for place, kind in enumerate(KINDS)),
        ],
        source=FileSource(path=str(folder / "kinds.parquet"), created_timestamp_column="created_timestamp", **times),
    )
    store.apply([user, content, taste, pair, kinds])
    return store


@pytest.fixture
def stores(tmp_path: Path, redis_server: Any, unique: str) -> list[FeatureStore]:
    write_traps(tmp_path / "taste")
    return [
        open_store(tmp_path, redis_server, f"{unique}_{kind}", parts) for kind, parts in (("here", None), ("spark", 3))
    ]


def test_executors_join_exactly_what_one_machine_joins(stores: list[FeatureStore], spark: Any) -> None:
    random = np.random.default_rng(5)
    spine = pd.DataFrame(
        {
            "user_id": [None if n % 31 == 0 else f"u{n}" for n in random.integers(0, 310, 900)],
            "content_id": random.choice(["c", "1c", "none"], 900),
            "event_timestamp": [NOW - timedelta(seconds=int(s)) for s in random.integers(0, 90_000, 900)],
            "label": random.integers(0, 2, 900),
        }
    )
    spine = pd.concat([spine, spine.head(40)], ignore_index=True)
    features = ["taste:plays", "taste:rate", "pair:score"]
    here, there = (store.get_historical_features(entity_df=spine, features=features).to_arrow() for store in stores)
    assert there.schema == here.schema
    assert there.equals(here)
    assert here["plays"].null_count not in (0, here.num_rows)
    assert here["score"].null_count not in (0, here.num_rows)


def test_executors_fill_exactly_what_one_machine_fills_and_a_push_writes(
    stores: list[FeatureStore], spark: Any, redis_server: Any, unique: str, tmp_path: Path
) -> None:
    for store in stores:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            store.materialize(start_date=NOW - timedelta(days=2), end_date=NOW)
    here, there = (stored(redis_server.client(), store.project) for store in stores)
    assert len(here) > 290
    assert there == here

    pushed_to = open_store(tmp_path, redis_server, f"{unique}_pushed", None)
    view = pushed_to.get_feature_view("kinds")
    rows = _convert_arrow_to_proto(kinds_table(), view, {"user_id": ValueType.STRING})
    pushed_to._get_provider().online_write_batch(pushed_to.config, view, rows, None)
    pushed = stored(redis_server.client(), pushed_to.project)
    assert len(pushed) == 140
    assert pushed == {key: here[key] for key in pushed}


def stored(client: Any, project: str) -> dict[bytes, dict[bytes, bytes]]:
    """Return what a project has in Redis, by key without the project."""
    return {key.removesuffix(project.encode()): client.hgetall(key) for key in client.scan_iter(match=f"*{project}")}


def test_a_source_that_lacks_a_column_is_refused_alike(stores: list[FeatureStore], spark: Any) -> None:
    spine = pd.DataFrame({"event_timestamp": [NOW], "other": ["u1"]})
    said = []
    for store in stores:
        with pytest.raises(Exception) as refusal:
            store.get_historical_features(entity_df=spine, features=["taste:plays"]).to_arrow()
        said.append(str(refusal.value))
    assert all("user_id" in text for text in said)


def test_executors_read_files_of_several_types_and_zones_as_one_machine_does(spark: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    kinds = [(pa.int64(), US, [2**53 + 1, 2]), (pa.float64(), pa.timestamp("ms", "+05:30"), [7.0, 8.0])]
    kinds += [(pa.int16(), pa.timestamp("us"), [5, None]), (pa.null(), US, [None, None])]
    for number, (kind, event, found) in enumerate(kinds):
        table = pa.table(
            {
                "user_id": pa.array([number, 9]).cast(pa.int32() if number % 2 else pa.float64()),
                "event": pa.array([NOW - timedelta(hours=number)] * 2, US).cast(event),
                "value": pa.array(found, kind),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet")
    view = ViewRequest(
        view="mixed",
        source=FileSource(path=str(folder), timestamp_field="event"),
        keys=(JoinKey(spine="user_id", source="user_id", dtype=Int64),),
        event="event",
        created=None,
        features=(RequestedFeature(feature="value", source="value", output="value", dtype=Int64),),
        ttl=None,
    )
    spine = read_spine(
        pa.table({"user_id": [0, 1, 2, 3, 9], "event_timestamp": pa.array([NOW] * 5, pa.timestamp("us", "+05:30"))})
    )

    def opened(asked: ViewRequest, first: int | None, last: int) -> Any:
        return open_path(str(folder), asked.view, S3Access())

    limits = JoinLimits(chunk_rows=2)
    here = join_history(spine, [view], opened, cutoff=False, limits=limits)
    there = join_on_spark(spine, [view], opened, cutoff=False, limits=limits, since=None, parts=2)
    assert there.equals(here)
    assert here["value"].to_pylist() == [2**53 + 1, 7, 5, None, 2]

    pull = Pull(
        keys=("user_id",),
        features=("value",),
        event="event",
        created=None,
        first=None,
        last=None,
        view="mixed",
        types=request_types(view),
    )
    written = tmp_path / "written"
    written.mkdir()

    def write(table: pa.Table) -> int:
        pq.write_table(table, written / f"{uuid.uuid4()}.parquet")
        return int(table.num_rows)

    assert fill_on_spark(opened(view, None, 0), pull, write, chunk_rows=2, parts=2) == 5
    filled = pq.read_table(written)
    assert dict(zip(filled["user_id"].to_pylist(), filled["value"].to_pylist(), strict=True)) == dict(
        zip([0, 1, 2, 3, 9], here["value"].to_pylist(), strict=True)
    )
