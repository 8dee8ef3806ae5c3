"""Of rows with equal times one counts, the same one in the join, in a fill, after a push and in a read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
from feast.types import Int64, String
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.offline import StillpointOfflineStoreConfig
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.values.types import ValueType as Type

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
US = pa.timestamp("us", tz="UTC")
USERS = ["u1", "u2"]

# (user, seconds of the event, seconds of the creation or None)
rows = st.tuples(st.sampled_from(USERS), st.integers(0, 1), st.none() | st.integers(0, 1))
pushes = st.lists(st.lists(rows, min_size=1, max_size=3), min_size=1, max_size=4)


class World:
    """A view that is pushed to, over a folder or one file, with or without created times."""

    def __init__(self, folder: Path, address: str, *, single: bool, created: bool, ttl: int | None = None) -> None:
        self.created, self.count = created, 0
        path = folder / ("rows.parquet" if single else "rows")
        names = {"user_id": pa.string(), "value": pa.int64(), "event_timestamp": US}
        names |= {"created": US} if created else {}
        empty = pa.schema(list(names.items())).empty_table()
        if not single:
            path.mkdir()
        pq.write_table(empty, path if single else path / "zzz.parquet")
        online = StillpointOnlineStoreConfig(connection_string=address, key_ttl_seconds=ttl)
        self.store = FeatureStore(
            config=RepoConfig(
                project=f"ties_{folder.name}",
                provider="local",
                registry=str(folder / "registry.pb"),
                online_store=online,
                offline_store=StillpointOfflineStoreConfig(),
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
                entity_key_serialization_version=3,
            )
        )
        source = FileSource(
            path=str(path),
            name="rows",
            timestamp_field="event_timestamp",
            created_timestamp_column="created" if created else "",
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        schema = [Field(name="user_id", dtype=String), Field(name="value", dtype=Int64)]
        stream = PushSource(name="pushes", batch_source=source)
        self.store.apply(
            [user, FeatureView(name="view", entities=[user], ttl=timedelta(0), schema=schema, source=stream)]
        )

    def push(self, rows: list[tuple[str, int, int | None]]) -> None:
        frame: dict[str, Any] = {"user_id": [user for user, _, _ in rows]}
        frame["value"] = list(range(self.count, self.count + len(rows)))
        frame["event_timestamp"] = [AT + timedelta(seconds=event) for _, event, _ in rows]
        if self.created:
            times = [pd.NaT if created is None else AT + timedelta(seconds=created) for *_, created in rows]
            frame["created"] = pd.to_datetime(pd.Series(times), utc=True)
        self.count += len(rows)
        self.store.push("pushes", pd.DataFrame(frame), to=PushMode.ONLINE_AND_OFFLINE)

    def joined(self) -> list[int | None]:
        spine = pd.DataFrame({"user_id": USERS, "event_timestamp": [AT + timedelta(hours=1)] * 2})
        found = self.store.get_historical_features(spine, ["view:value"]).to_arrow()
        return list(found["value"].to_pylist())

    def read(self) -> list[int | None]:
        return list(self.store.get_online_features(["view:value"], {"user_id": USERS}).to_dict()["value"])

    def fill(self) -> None:
        self.store.materialize(AT - timedelta(days=1), AT + timedelta(days=1))


@pytest.mark.parametrize("single", [True, False], ids=["file", "folder"])
@pytest.mark.parametrize("created", [True, False], ids=["created", "no-created"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=pushes)
def test_join_fill_push_and_read_agree_about_rows_of_equal_times(
    case: Any, single: bool, created: bool, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = World(tmp_path_factory.mktemp("w"), redis_server.connection_string, single=single, created=created)
    for pushed in case:
        world.push(pushed)
        assert world.read() == world.joined()
    world.fill()
    assert world.read() == world.joined()
    client = connect(redis_server.connection_string)
    for key in client.keys("*" + world.store.project):
        client.delete(key)
    world.fill()
    assert world.read() == world.joined()


def test_a_fill_of_equal_rows_renews_the_time_to_live_of_their_keys(tmp_path: Path, redis_server: RedisServer) -> None:
    world = World(tmp_path, redis_server.connection_string, single=True, created=True, ttl=1000)
    world.push([("u1", 0, 0)])
    client = connect(redis_server.connection_string)
    layout = ViewLayout("view", (Column("user_id", Type.STRING),), ())
    (key,) = encode_keys(layout, pa.table({"user_id": ["u1"]}), world.store.project)
    client.expire(key, 5)
    world.push([("u1", -1, 0)])
    assert client.ttl(key) <= 5  # a row that is older than what is stored changes nothing
    world.fill()
    assert 5 < client.ttl(key) <= 1000
