"""A row of the future is refused by every push, left out of a fill, withheld by an enforced read, and taken where a store is
told to take it. A row that claims to be created in the future is refused by every push too.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
from feast.types import Int64

from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.offline import StillpointOfflineStoreConfig
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import AsyncOnlineReader, OnlineReader
from stillpoint.stores.reading.types import FieldStatus, Mode
from stillpoint.stores.redis.connection import connect, connect_async
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.stores.values.types import ValueType as Type

WAYS = ["online", "offline", "both", "write online", "write offline"]
SCHEMA = pa.schema([("user_id", pa.string()), ("value", pa.int64()), ("event_timestamp", pa.timestamp("us", tz="UTC"))])


def frame(*rows: tuple[str, int, datetime]) -> pd.DataFrame:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=SCHEMA).to_pandas()


class World:
    """A view that is pushed to, over a folder; with created times if asked for."""

    def __init__(self, folder: Path, address: str, tolerance: float | None, *, created: bool = False) -> None:
        self.path = folder / "rows"
        self.path.mkdir()
        self.now = now = datetime.now(UTC)
        first = frame(("u1", 1, now - timedelta(days=1)), ("u1", 2, now + timedelta(days=400)), ("u2", 3, now))
        table = pa.Table.from_pandas(first, SCHEMA)
        if created:
            table = table.append_column("created", table["event_timestamp"])
        pq.write_table(table, self.path / "first.parquet")
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
        source = FileSource(
            name="rows",
            path=str(self.path),
            timestamp_field="event_timestamp",
            created_timestamp_column="created" if created else "",
        )
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


def ways(world: World, rows: pd.DataFrame) -> dict[str, Callable[[], None]]:
    return {
        "online": lambda: world.store.push("push", rows, to=PushMode.ONLINE),
        "offline": lambda: world.store.push("push", rows, to=PushMode.OFFLINE),
        "both": lambda: world.store.push("push", rows, to=PushMode.ONLINE_AND_OFFLINE),
        "write online": lambda: world.store.write_to_online_store("view", rows),
        "write offline": lambda: world.store.write_to_offline_store("view", rows),
    }


def strict(world: World) -> bool:
    return world.store.config.online_store.future_tolerance_seconds is not None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ahead", [timedelta(hours=9), timedelta(days=365 * 500)])
def test_a_push_of_the_future_is_refused_whole_by_name_in_every_way(world: World, way: str, ahead: timedelta) -> None:
    rows = frame(("u8", 5, world.now), ("u9", 6, world.now + ahead))
    calls = ways(world, rows)
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
    calls_later = frame(("u8", 5, world.now), ("u9", 6, world.now + timedelta(seconds=30)))
    world.store.push("push", calls_later, to=PushMode.ONLINE_AND_OFFLINE)
    assert (world.online("u8"), world.online("u9")) == (5, 6)


def test_a_fill_beyond_now_writes_the_newest_true_row_and_says_so(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stillpoint.stores.future"):
        world.store.materialize(world.now - timedelta(days=3), world.now + timedelta(days=1_000))
    assert (world.online("u1"), world.online("u2")) == ((1, 3) if strict(world) else (2, 3))
    assert ("rows that claim to happen later are left out" in caplog.text) is strict(world)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tolerance", [60.0, None])
def test_a_push_that_claims_to_be_created_in_the_future_is_refused_whole_in_every_way(
    way: str, tolerance: float | None, tmp_path: Path, redis_server: RedisServer
) -> None:
    world = World(tmp_path, redis_server.connection_string, tolerance, created=True)
    rows = frame(("u8", 5, world.now), ("u9", 6, world.now))
    rows["created"] = pd.Series([world.now, world.now + timedelta(days=900)]).astype("datetime64[us, UTC]")
    before = world.stored()
    if tolerance is None:
        ways(world, rows)[way]()
        return
    with pytest.raises(InvalidInput, match=r"view view: the created timestamp of row 1.* in the future"):
        ways(world, rows)[way]()
    assert (world.stored(), world.online("u8")) == (before, None)
    rows["created"] = pd.Series([None, world.now + timedelta(seconds=30)]).astype("datetime64[us, UTC]")
    world.store.push("push", rows, to=PushMode.ONLINE_AND_OFFLINE)
    assert (world.online("u8"), world.online("u9")) == (5, 6)


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = (Column("user_id", Type.STRING),)
STORED = {
    "number": (Type.INT64, 7),
    "flag": (Type.BOOL, True),
    "text": (Type.STRING, "seven"),
    "vector": (Type.FLOAT_LIST, [1.0, 2.0]),
}
VIEWS = tuple(
    ViewLayout(name, KEY, tuple(Column(f"{name}_{one}", kind) for one, (kind, _) in STORED.items()), ttl)
    for name, ttl in (("lasting", None), ("fleeting", 3_600 * 10**6))
)
AHEAD = {"now": 0, "a little ahead": 59, "ahead": 61, "years ahead": 10**9, "long ago": -7_200}


def read(project: str, address: str, mode: Mode, tolerance: timedelta | None, *, later: bool) -> OnlineColumns:
    plan, names, at = ReadPlan(project, VIEWS), ["lasting", "fleeting"], to_micros(NOW)
    entities = {"user_id": [*AHEAD, "nobody"]}
    if not later:
        reader = OnlineReader(connect(address), plan, future_tolerance=tolerance)
        return reader.values_only().read(names, entities, now_us=at, mode=mode)

    async def awaited() -> OnlineColumns:
        client = connect_async(address)
        reader = AsyncOnlineReader(client, plan, future_tolerance=tolerance)
        found = await reader.read(names, entities, now_us=at, mode=mode)
        await client.aclose()
        return found

    return asyncio.run(awaited())


@pytest.mark.parametrize("later", [False, True], ids=["sync", "async"])
def test_an_enforced_read_withholds_a_value_of_the_future_as_one_past_its_time_to_live(
    later: bool, tmp_path: Path, redis_server: RedisServer
) -> None:
    address, project = redis_server.connection_string, f"read_{tmp_path.name}"
    times = pa.array([to_micros(NOW) + seconds * 10**6 for seconds in AHEAD.values()], pa.timestamp("us", tz="UTC"))
    for view in VIEWS:
        values = {f"{view.name}_{one}": [value] * len(AHEAD) for one, (_, value) in STORED.items()}
        table = pa.table({"user_id": list(AHEAD), "event_timestamp": times, **values})
        OnlineWriter(connect(address), project).write(view, table)

    def shown(view: str, mode: Mode, tolerance: timedelta | None = timedelta(seconds=60)) -> list[bool]:
        columns = read(project, address, mode, tolerance, later=later)
        rows = columns.to_dicts()
        for one, (kind, value) in STORED.items():
            name = f"{view}_{one}"
            there = [found is not None for found in columns.values(name)]
            assert columns.values(name) == [value if shown else None for shown in there]
            assert [row[name].value is not None for row in rows] == there
            if mode is Mode.ENFORCE:
                assert [row[name].status is FieldStatus.PRESENT for row in rows] == there
                assert {row[name].status for row, shown in zip(rows[:-1], there, strict=False) if not shown} <= {
                    FieldStatus.OUTSIDE_MAX_AGE
                }
                assert [age == age for age in columns.age_seconds(view)] == there
            if kind in (Type.INT64, Type.BOOL):
                assert [number == number for number in columns.column(name)] == there
        return there[:-1]

    assert shown("lasting", Mode.ENFORCE) == [True, True, False, False, True]
    assert shown("fleeting", Mode.ENFORCE) == [True, True, False, False, False]
    assert shown("lasting", Mode.ENFORCE, None) == [True] * 5
    assert shown("fleeting", Mode.ENFORCE, None) == [True, True, True, True, False]
    assert shown("lasting", Mode.COMPAT) == shown("fleeting", Mode.COMPAT) == [True] * 5
