"""A row of the future is refused by every push, left out of a fill, and taken where a store is told to take it."""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
from feast.types import Int64

from stillpoint.errors import InvalidInput
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.offline import StillpointOfflineStoreConfig
from stillpoint.stores.online import StillpointOnlineStoreConfig

NOW = datetime.now(UTC)
SCHEMA = pa.schema([("user_id", pa.string()), ("value", pa.int64()), ("event_timestamp", pa.timestamp("us", tz="UTC"))])


def frame(*rows: tuple[str, int, datetime]) -> pd.DataFrame:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA).to_pandas()


class World:
    def __init__(self, folder: Path, address: str, tolerance: float | None) -> None:
        self.path = folder / "rows"
        self.path.mkdir()
        first = frame(("u1", 1, NOW - timedelta(days=1)), ("u1", 2, NOW + timedelta(days=400)), ("u2", 3, NOW))
        pq.write_table(pa.Table.from_pandas(first, SCHEMA), self.path / "first.parquet")
        self.store = FeatureStore(
            config=RepoConfig(
                project=f"future_{folder.name}",
                provider="local",
                registry=str(folder / "registry.pb"),
                online_store=StillpointOnlineStoreConfig(connection_string=address, future_tolerance_seconds=tolerance),
                offline_store=StillpointOfflineStoreConfig(future_tolerance_seconds=tolerance),
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
                entity_key_serialization_version=3,
            )
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        source = FileSource(name="rows", path=str(self.path), timestamp_field="event_timestamp")
        push = PushSource(name="push", batch_source=source)
        view = FeatureView(
            name="view", entities=[user], schema=[Field(name="value", dtype=Int64)], source=push, ttl=None
        )
        self.store.apply([user, push, view])

    def online(self, user: str) -> int | None:
        answer = self.store.get_online_features(["view:value"], [{"user_id": user}]).to_dict()
        found: int | None = answer["value"][0]
        return found

    def stored(self) -> int:
        return sum(pq.read_metadata(file).num_rows for file in self.path.glob("*.parquet"))


@pytest.fixture(params=[60.0, None], ids=["as it is", "told to take any time"])
def world(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> World:
    return World(tmp_path, redis_server.connection_string, request.param)


def strict(world: World) -> bool:
    return world.store.config.online_store.future_tolerance_seconds is not None


@pytest.mark.parametrize("way", ["online", "offline", "both", "write online", "write offline"])
@pytest.mark.parametrize("ahead", [timedelta(seconds=120), timedelta(days=365 * 500)])
def test_a_push_of_the_future_is_refused_whole_by_name_in_every_way(world: World, way: str, ahead: timedelta) -> None:
    rows = frame(("u8", 5, NOW), ("u9", 6, NOW + ahead))
    calls = {
        "online": lambda: world.store.push("push", rows, to=PushMode.ONLINE),
        "offline": lambda: world.store.push("push", rows, to=PushMode.OFFLINE),
        "both": lambda: world.store.push("push", rows, to=PushMode.ONLINE_AND_OFFLINE),
        "write online": lambda: world.store.write_to_online_store("view", rows),
        "write offline": lambda: world.store.write_to_offline_store("view", rows),
    }
    before = world.stored()
    if not strict(world):
        calls[way]()
        return
    with pytest.raises(
        InvalidInput, match=r"view view: the event timestamp of row 1.* in the future; expected at most 60 s"
    ):
        calls[way]()
    assert world.stored() == before
    assert world.online("u8") is None  # nothing of it was written
    calls_later = frame(("u8", 5, NOW), ("u9", 6, NOW + timedelta(seconds=30)))
    world.store.push("push", calls_later, to=PushMode.ONLINE_AND_OFFLINE)
    assert (world.online("u8"), world.online("u9")) == (5, 6)


def test_a_fill_beyond_now_writes_the_newest_true_row_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stillpoint.stores.future"):
        world.store.materialize(NOW - timedelta(days=3), NOW + timedelta(days=1_000))
    assert (world.online("u1"), world.online("u2")) == ((1, 3) if strict(world) else (2, 3))
    assert ("rows that claim to happen later are left out" in caplog.text) is strict(world)
