"""A push is taken by both stores or by neither, value for value, from Python, asynchronously and over HTTP."""

import asyncio
import datetime as dt
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
from feast.feature_server import get_app
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp
from starlette.testclient import TestClient

from stillpoint.errors import InvalidInput
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.offline import StillpointOfflineStoreConfig
from stillpoint.stores.online import StillpointOnlineStoreConfig

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
US = pa.timestamp("us", tz="UTC")
TYPES: dict[str, tuple[Any, pa.DataType]] = {
    "count": (Int64, pa.int64()),
    "small": (Int32, pa.int32()),
    "rate": (Float64, pa.float64()),
    "share": (Float32, pa.float32()),
    "flag": (Bool, pa.bool_()),
    "name": (String, pa.string()),
    "since": (UnixTimestamp, US),
    "tags": (Array(String), pa.list_(pa.string())),
    "sizes": (Array(Int64), pa.list_(pa.int64())),
}


class World:
    """Two views of one push source, over a file each; the second file lacks a column that the first has."""

    def __init__(self, folder: Path, address: str, *, narrow: tuple[str, ...] = tuple(TYPES)) -> None:
        self.store = FeatureStore(
            config=RepoConfig(
                project=f"pushes_{uuid.uuid4().hex[:8]}",
                provider="local",
                registry=str(folder / "registry.pb"),
                online_store=StillpointOnlineStoreConfig(connection_string=address),
                offline_store=StillpointOfflineStoreConfig(),
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
                entity_key_serialization_version=3,
            )
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        objects: list[Any] = [user]
        self.files: list[Path] = []
        for number, names in enumerate((tuple(TYPES), narrow)):
            path = folder / f"rows{number}.parquet"
            columns = {"user_id": pa.string(), **{name: TYPES[name][1] for name in names}, "event_timestamp": US}
            pq.write_table(pa.schema(list(columns.items())).empty_table(), path)
            self.files.append(path)
            source = FileSource(path=str(path), name=f"rows{number}", timestamp_field="event_timestamp")
            objects.append(
                FeatureView(
                    name=f"view{number}",
                    entities=[user],
                    ttl=timedelta(0),
                    schema=[Field(name="user_id", dtype=String)]
                    + [Field(name=name, dtype=TYPES[name][0]) for name in names],
                    source=PushSource(name=f"push{number}" if narrow == tuple(TYPES) else "push", batch_source=source),
                )
            )
        self.store.apply(objects)

    def rows(self) -> list[int]:
        return [pq.read_metadata(path).num_rows for path in self.files]

    def read(self, view: str = "view0", users: tuple[str, ...] = ("u1",)) -> dict[str, list[Any]]:
        names = [f"{view}:{field.name}" for field in self.store.get_feature_view(view).features]
        answer = self.store.get_online_features(names, {"user_id": list(users)}).to_dict()
        return {name: values for name, values in answer.items() if name != "user_id"}

    def joined(self, view: str = "view0", users: tuple[str, ...] = ("u1",)) -> dict[str, list[Any]]:
        names = [f"{view}:{field.name}" for field in self.store.get_feature_view(view).features]
        spine = pd.DataFrame({"user_id": list(users), "event_timestamp": [AT + timedelta(days=1)] * len(users)})
        found = self.store.get_historical_features(spine, names).to_arrow()
        return {name.partition(":")[2]: found[name.partition(":")[2]].to_pylist() for name in names}


def frame(users: list[Any], **values: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {"user_id": users, "event_timestamp": [AT] * len(users)}
    for name in TYPES:
        columns[name] = values.get(name, pd.Series([None] * len(users), dtype=object))
    return pd.DataFrame(columns)


@pytest.fixture
def world(tmp_path: Path, redis_server: RedisServer) -> World:
    return World(tmp_path, redis_server.connection_string)


def pushed(store: FeatureStore, how: str, source: str, rows: pd.DataFrame) -> None:
    if how == "sync":
        store.push(source, rows, to=PushMode.ONLINE_AND_OFFLINE)
    elif how == "async":

        async def push() -> None:
            await store.push_async(source, rows, to=PushMode.ONLINE_AND_OFFLINE)
            await store._get_provider().online_store.close()

        asyncio.run(push())
    else:
        with TestClient(get_app(store)) as client:
            columns = {name: [str(v) if isinstance(v, datetime) else v for v in rows[name]] for name in rows}
            body = {"push_source_name": source, "df": columns, "to": "online_and_offline"}
            answer = client.post("/push", json=body)
            if answer.status_code != 200:
                raise InvalidInput(answer.text)


HOW = pytest.mark.parametrize("how", ["sync", "async", "http"])


@HOW
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"extra": [1]}, "extra"),
        ({"event_timestamp": ["yesterday"]}, "yesterday"),
        ({"count": ["many"]}, "many"),
        ({"tags": [["a", None]]}, "null"),
        ({"user_id": [None]}, "null"),
    ],
)
def test_what_one_store_refuses_the_other_does_not_get(world: World, how: str, change: Any, words: str) -> None:
    pushed(world.store, how, "push0", frame(["u1"], count=[1]))
    with pytest.raises(Exception, match=words):
        pushed(world.store, how, "push0", frame(["u1"], count=[2]).assign(**change))
    assert world.read()["count"] == [1]
    assert world.rows() == [1, 0]


@pytest.mark.parametrize("to", [PushMode.ONLINE_AND_OFFLINE, PushMode.OFFLINE])
def test_what_one_view_refuses_the_others_do_not_get(tmp_path: Path, redis_server: RedisServer, to: PushMode) -> None:
    world = World(tmp_path, redis_server.connection_string, narrow=("count",))
    with pytest.raises(ValueError, match="do not match the batch source columns"):
        world.store.push("push", frame(["u1"], count=[1]), to=to)
    assert world.read()["count"] == world.read("view1")["count"] == [None]
    assert world.rows() == [0, 0]


@HOW
def test_times_of_a_push_are_read_alike_by_both_stores(world: World, how: str) -> None:
    for number, time in enumerate(["2026-03-01 10:00:00", "2026-03-01T12:30:00+02:00", "2026-03-01T11:00:00Z"]):
        rows = frame(["u1"], count=[number]).assign(event_timestamp=[time])
        pushed(world.store, how, "push0", rows)
    assert world.read()["count"] == world.joined()["count"] == [2]
    stored = pq.read_table(world.files[0])["event_timestamp"].to_pylist()
    assert [time.astimezone(UTC).isoformat() for time in stored] == [
        "2026-03-01T10:00:00+00:00", "2026-03-01T10:30:00+00:00", "2026-03-01T11:00:00+00:00",
    ]  # fmt: skip


def test_whole_numbers_beside_a_null_keep_all_their_digits(world: World) -> None:
    big = 2**53 + 1
    rows = frame(["u1", "u2"], count=pd.array([big, None], "Int64"), sizes=[[big, -big], None])
    world.store.push("push0", rows, to=PushMode.ONLINE_AND_OFFLINE)
    users = ("u1", "u2")
    assert world.read(users=users)["count"] == world.joined(users=users)["count"] == [big, None]
    assert world.read(users=users)["sizes"] == world.joined(users=users)["sizes"] == [[big, -big], None]


def test_a_row_of_nulls_replaces_what_is_stored_in_both_stores(world: World) -> None:
    world.store.push("push0", frame(["u1"], count=[1], name=["x"]), to=PushMode.ONLINE_AND_OFFLINE)
    later = frame(["u1"]).assign(event_timestamp=[AT + timedelta(seconds=1)])
    world.store.push("push0", later, to=PushMode.ONLINE_AND_OFFLINE)
    assert set(map(tuple, world.read().values())) == set(map(tuple, world.joined().values())) == {(None,)}


@pytest.mark.parametrize(
    ("key", "asked"),
    [
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (dt.date(2026, 3, 1), "2026-03-01"),
        (7, "7"),
        (np.int64(7), "7"),
    ],
)
def test_a_text_key_may_be_a_uuid_a_date_or_a_whole_number(world: World, key: Any, asked: str) -> None:
    world.store.push("push0", frame([key], count=[1]), to=PushMode.ONLINE)
    assert world.read(users=(asked,))["count"] == [1]
    assert world.store.get_online_features(["view0:count"], [{"user_id": key}]).to_dict()["count"] == [1]


@pytest.mark.parametrize("key", [None, float("nan"), pd.NaT, pd.NA, 1.5, True, AT, ["u1"], "\ud83d"])
def test_what_is_no_key_is_refused_by_push_and_read(world: World, key: Any) -> None:
    with pytest.raises(InvalidInput, match="join key user_id of row 0 is"):
        world.store.push("push0", frame([key], count=[1]), to=PushMode.ONLINE)
    with pytest.raises(InvalidInput, match="join key user_id of row 0 is"):
        world.store.get_online_features(["view0:count"], [{"user_id": key}])


def test_settings_of_feasts_own_redis_store_are_taken_and_those_without_effect_are_told() -> None:
    with pytest.warns(UserWarning, match=r"online_store\.skip_dedup is True, .* changes nothing"):
        StillpointOnlineStoreConfig(skip_dedup=True)
    with pytest.warns(UserWarning, match=r"online_store\.client is 'glide'"):
        StillpointOnlineStoreConfig(client="glide")


def test_every_setting_of_feasts_own_redis_store_is_known(recwarn: pytest.WarningsRecorder) -> None:
    from feast.infra.online_stores.redis import RedisOnlineStoreConfig

    theirs = RedisOnlineStoreConfig().model_dump(exclude={"type"})
    ours = StillpointOnlineStoreConfig(**theirs)
    assert {name: getattr(ours, name) for name in theirs} == theirs
    assert not recwarn
