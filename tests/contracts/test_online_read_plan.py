"""A plan compiled from a registry holds what the registry says, refuses what it cannot do, and keeps its digest."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RepoConfig,
    ValueType,
)
from feast.data_source import PushMode
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import RegistryConfig
from feast.types import Float64, Int64, String

from stillpoint.errors import CorruptData, PlanRefused
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.compile import compile_plan, definitions_sha256, view_layout
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.writer import OnlineWriter

AT = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path, redis_server: RedisServer) -> FeatureStore:
    return FeatureStore(config=configuration(tmp_path, redis_server))


def configuration(folder: Path, server: RedisServer, **registry: Any) -> RepoConfig:
    return RepoConfig(
        project="planned",
        provider="local",
        registry=RegistryConfig(path=str(folder / "registry.pb"), **registry),
        online_store=StillpointOnlineStoreConfig(connection_string=server.connection_string),
        entity_key_serialization_version=3,
    )


def definitions(folder: Path) -> list[Any]:
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    path = folder / "rows.parquet"
    if not path.exists():
        pd.DataFrame(
            {
                "user_id": ["u1", "u1", "u2"],
                "plays": [1, 2, 3],
                "rate": [0.5, 0.25, None],
                "event_timestamp": [AT, AT + timedelta(hours=1), AT],
                "created": [AT, AT, AT],
            }
        ).to_parquet(path)
    source = FileSource(
        path=str(path), timestamp_field="event_timestamp", created_timestamp_column="created", name="rows"
    )
    view = FeatureView(
        name="activity",
        entities=[user],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="plays", dtype=Int64),
            Field(name="rate", dtype=Float64),
        ],
        source=PushSource(name="activity_push", batch_source=source),
    )
    everywhere = FeatureView(name="everywhere", entities=[], schema=[Field(name="plays", dtype=Int64)], source=source)
    friend = view.with_name("friend").with_join_key_map({"user_id": "friend_id"})
    service = FeatureService(name="activity_v1", features=[view[["rate", "plays"]]])
    friends = FeatureService(name="friends", features=[view.with_name("me"), friend])
    return [user, source, view, everywhere, service, friends]


def test_apply_materialize_push_and_read_agree_with_the_plan(store: FeatureStore, tmp_path: Path) -> None:
    store.apply(definitions(tmp_path))
    store.materialize(AT - timedelta(days=1), AT + timedelta(days=1))
    pushed = pd.DataFrame({"user_id": ["u3"], "plays": [9], "rate": [1.0], "event_timestamp": [AT], "created": [AT]})
    store.push("activity_push", pushed, to=PushMode.ONLINE)
    plan = compile_plan(store)
    reader = OnlineReader(connect(store.config.online_store.connection_string), plan)
    service = store.get_feature_service("friends")
    entities = {"user_id": ["u1", "u2", "u3"], "friend_id": ["u3", "u1", "nobody"]}
    expected = store.get_online_features(service, entities, full_feature_names=True).to_dict()
    answer = reader.read("friends", entities, now_us=0, mode=Mode.COMPAT)
    assert answer.to_dict(full_names=True) == expected
    assert expected["friend__plays"] == [9, 2, None]
    assert reader.read("activity_v1", {"user_id": ["u1"]}, now_us=0, mode=Mode.COMPAT).names == ["rate", "plays"]
    assert store.get_online_features(["everywhere:plays"], {"user_id": ["x"]}).to_dict()["plays"] == [2]
    assert reader.read(["everywhere"], {}, now_us=0, mode=Mode.COMPAT).values("plays") == [2]


def test_our_writer_takes_a_feast_view(store: FeatureStore, tmp_path: Path) -> None:
    import pyarrow as pa

    store.apply(definitions(tmp_path))
    layout = view_layout(store.get_feature_view("activity"))
    table = pa.table(
        {
            "user_id": ["u7"],
            "plays": [7],
            "rate": pa.nulls(1),
            "event_timestamp": pa.array([AT], pa.timestamp("us", tz="UTC")),
        }
    )
    OnlineWriter(connect(store.config.online_store.connection_string), "planned").write(layout, table)
    assert store.get_online_features(["activity:plays", "activity:rate"], {"user_id": ["u7"]}).to_dict() == {
        "user_id": ["u7"], "plays": [7], "rate": [None],
    }  # fmt: skip


def test_the_digest_survives_a_repeated_apply_and_a_materialize_and_sees_a_change(
    store: FeatureStore, tmp_path: Path
) -> None:
    store.apply(definitions(tmp_path))
    before, plan = definitions_sha256(store), compile_plan(store).sha256
    store.apply(definitions(tmp_path))
    store.materialize(AT - timedelta(days=1), AT + timedelta(days=1))
    assert (definitions_sha256(store), compile_plan(store).sha256) == (before, plan)
    frozen = (tmp_path / "registry.pb").read_bytes()
    assert definitions_sha256(frozen) == before
    assert compile_plan(frozen).sha256 == plan
    changed = definitions(tmp_path)
    changed[2].ttl = timedelta(days=1)
    store.apply(changed)
    assert definitions_sha256(store) != before


def test_an_on_demand_view_is_noted_and_refused_by_name(store: FeatureStore, tmp_path: Path) -> None:
    made = definitions(tmp_path)

    @on_demand_feature_view(
        sources=[made[2]], schema=[Field(name="double", dtype=Int64)], mode="python", singleton=False
    )
    def doubled(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"double": [value and value * 2 for value in inputs["plays"]]}

    store.apply([*made, doubled])
    plan = compile_plan(store)
    assert [(item.name, item.function) for item in plan.on_demand] == [("doubled", None)]
    with pytest.raises(PlanRefused, match="doubled is an on-demand feature view"):
        plan.select(["doubled:double"])


def test_versioned_views_are_refused(tmp_path: Path, redis_server: RedisServer) -> None:
    config = configuration(tmp_path, redis_server, enable_online_feature_view_versioning=True)
    with pytest.raises(PlanRefused, match="enable_online_feature_view_versioning is on"):
        FeatureStore(config=config).apply(definitions(tmp_path))


def test_what_is_no_registry_or_holds_no_project_is_refused() -> None:
    with pytest.raises(CorruptData, match="no Feast registry"):
        compile_plan(b"\xff\xff" + os.urandom(8))
    with pytest.raises(PlanRefused, match="the registry holds the projects none"):
        compile_plan(b"")
