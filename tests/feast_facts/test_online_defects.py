"""Defects of Redis in the installed Feast: each test fails the day Feast mends it, and shows ours beside it.

`docs/why-not-stock-feast.md` names these tests as its proofs.
"""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.compute_engines.local.nodes import LocalSourceReadNode
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import MaterializationConfig, RepoConfig
from feast.type_map import python_values_to_proto_values
from feast.types import Int64, String

from stillpoint.clock import to_micros
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.engine import StillpointEngineConfig
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import FieldStatus
from stillpoint.stores.redis.connection import connect

T0 = datetime(2026, 3, 1, tzinfo=UTC)
STOCK, OURS = "redis", "stillpoint.stores.online.StillpointOnlineStore"
KINDS = pytest.mark.parametrize("kind", [STOCK, OURS])


def at(hours: float) -> datetime:
    return T0 + timedelta(hours=hours)


class Opened:
    """A project with two views of one entity in a Redis store of either kind."""

    def __init__(
        self, kind: str, server: RedisServer, folder: Path, project: str | None = None, **sections: Any
    ) -> None:
        self.server = server
        self.source = folder / "plays.parquet"
        self.store = FeatureStore(
            config=RepoConfig(
                project=project or f"defects_{uuid.uuid4().hex[:8]}",
                provider="local",
                registry=str(folder / f"{uuid.uuid4().hex}.db"),
                online_store={"type": kind, "connection_string": f"127.0.0.1:{server.port},db=0"},
                entity_key_serialization_version=3,
                **sections,
            )
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        views = [
            FeatureView(
                name=name,
                entities=[user],
                ttl=timedelta(hours=1),
                schema=[Field(name="user_id", dtype=String), Field(name=name, dtype=Int64)],
                source=FileSource(name=name, path=str(self.source), timestamp_field="event_timestamp"),
            )
            for name in ("plays", "stops")
        ]
        self.store.apply([user, *views])

    def write(self, plays: int, hour: float, created: float | None = None) -> None:
        key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val="u1")])
        row = (key, {"plays": Value(int64_val=plays)}, at(hour), None if created is None else at(created))
        view = self.store.get_feature_view("plays")
        self.store._get_provider().online_write_batch(self.store.config, view, [row], None)

    def read(self) -> Any:
        return self.store.get_online_features(["plays:plays"], {"user_id": ["u1"]}).to_dict()["plays"][0]


@pytest.fixture
def opened(redis_server: RedisServer, tmp_path: Path) -> Any:
    return lambda kind, **sections: Opened(kind, redis_server, tmp_path, **sections)


@KINDS
def test_a_correction_at_the_same_event_time_is_dropped_by_feast_and_wins_in_ours(opened: Any, kind: str) -> None:
    project = opened(kind)
    project.write(1, hour=0, created=0)
    project.write(2, hour=0, created=5)
    assert project.read() == (1 if kind == STOCK else 2)


@KINDS
def test_feast_loses_the_newer_of_two_rows_that_are_written_at_once(
    opened: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream writes after a fill has compared the times and before it has written."""
    project = opened(kind)
    project.write(1, hour=0)
    execute, beside = redis.client.Pipeline.execute, [lambda: project.write(3, hour=3)]

    def interrupted(*arguments: Any, **named: Any) -> Any:
        answered = execute(*arguments, **named)
        if beside:
            beside.pop()()
        return answered

    monkeypatch.setattr(redis.client.Pipeline, "execute", interrupted)
    project.write(2, hour=2)
    while beside:
        beside.pop()()  # ours has no gap between comparing and writing: the stream comes right after
    monkeypatch.undo()
    assert project.read() == (2 if kind == STOCK else 3)


def test_feast_serves_values_older_than_their_time_to_live_and_an_enforced_read_withholds_them(opened: Any) -> None:
    project = opened(STOCK)
    project.write(7, hour=0)
    answer = project.store.get_online_features(["plays:plays"], {"user_id": ["u1"]}).to_dict()
    assert answer["plays"] == [7]  # of March, today, with a time to live of one hour
    ours = opened(OURS)
    ours.write(7, hour=0)
    reader = OnlineReader(connect(f"127.0.0.1:{ours.server.port},db=0"), compile_plan(ours.store))
    columns = reader.read(["plays:plays"], {"user_id": ["u1", "nobody"]}, now_us=to_micros(at(2)))
    assert columns.to_dict()["plays"] == [None, None]
    assert columns.status("plays").tolist() == [FieldStatus.OUTSIDE_MAX_AGE, FieldStatus.NOT_FOUND]


@KINDS
def test_feasts_deletion_takes_the_keys_of_a_project_whose_name_ends_alike(opened: Any, kind: str) -> None:
    mark = uuid.uuid4().hex[:8]
    mine, shadow = opened(kind, project=f"green{mark}"), opened(kind, project=f"shadow_green{mark}")
    for project in (mine, shadow):
        project.write(7, hour=0)
    views = [mine.store.get_feature_view(name) for name in ("plays", "stops")]
    mine.store._get_provider().online_store.teardown(mine.store.config, views, [])
    assert mine.read() is None
    assert shadow.read() == (None if kind == STOCK else 7)


@KINDS
def test_feast_asks_redis_once_per_view_and_ours_once_per_entity(opened: Any, kind: str) -> None:
    project = opened(kind)
    project.write(7, hour=0)
    client = project.server.client()
    client.config_resetstat()
    project.store.get_online_features(["plays:plays", "stops:stops"], {"user_id": ["u1"]})
    commands = client.info("commandstats")
    asked = sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hmget", "hgetall"))
    assert asked == (2 if kind == STOCK else 1)


def test_feast_makes_a_null_time_a_number_if_another_row_has_one() -> None:
    """A push through any store goes this way; a fill of ours stores null."""
    nothing = np.datetime64("NaT")
    made = python_values_to_proto_values([nothing, np.datetime64("2026-03-01")], ValueType.UNIX_TIMESTAMP)
    assert made[0].unix_timestamp_val == -(2**63)


def test_feasts_fill_holds_all_rows_of_history_before_it_picks_the_latest(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours in bounded memory: `test_reading_in_small_chunks_and_partitions_changes_nothing`."""
    project = opened(STOCK, offline_store={"type": "duckdb"})
    times = pa.array([at(hour) for hour in range(5)], pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"user_id": ["u1"] * 5, "event_timestamp": times, "plays": range(5)}), project.source)
    held: list[int] = []
    execute = LocalSourceReadNode.execute

    def counted(self: Any, context: Any) -> Any:
        found = execute(self, context)
        held.append(found.data.num_rows)
        return found

    monkeypatch.setattr(LocalSourceReadNode, "execute", counted)
    project.store.materialize(at(-1), at(9), feature_views=["plays"])
    assert held == [5]
    assert project.read() == 4


def test_feasts_fill_has_no_setting_for_its_pace() -> None:
    """Ours is shown in `tests/integration/test_materialization_engine.py`."""
    assert set(MaterializationConfig.model_fields) == {"pull_latest_features", "online_write_batch_size"}
    assert {"max_rows_per_second", "pause_file"} <= set(StillpointEngineConfig.model_fields)


def test_feast_answers_an_alias_with_another_entitys_value_and_ours_with_its_own(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    answers: dict[str, list[Any]] = {}
    for kind in (STOCK, OURS):
        opened = Opened(kind, redis_server, tmp_path)
        store = opened.store
        view = store.get_feature_view("plays")
        target = view.with_name("target").with_join_key_map({"user_id": "target_id"})
        store.apply(FeatureService(name="pair", features=[view.with_name("mine"), target]))
        for user, plays in (("u1", 1), ("u2", 2)):
            key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)])
            row = (key, {"plays": Value(int64_val=plays)}, T0, None)
            store._get_provider().online_write_batch(store.config, view, [row], None)
        for row in ({"user_id": "u1", "target_id": "u2"}, {"target_id": "u2", "user_id": "u1"}):
            found = store.get_online_features(store.get_feature_service("pair"), [row], full_feature_names=True)
            shown = found.to_dict()
            answers.setdefault(kind, []).append((shown["mine__plays"], shown["target__plays"]))
    assert answers[OURS] == [([1], [2]), ([1], [2])]
    assert ([1], [1]) in answers[STOCK] or ([2], [2]) in answers[STOCK]
