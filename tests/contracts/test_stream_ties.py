"""Of events that happened and arrived at one moment, the stream, a fill of its lake and a push of the same rows leave the same row online."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.data_source import PushMode
from feast.types import Array, Float32, Int64, String

from ingestion.kinesis_shards import Record
from stillpoint.clock import to_micros
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.offline import StillpointOfflineStoreConfig
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.deletion import project_keys
from stillpoint.stores.redis.layout import ViewLayout
from tests.support.batch_world import Parts, World
from tests.support.wellness import FEATURES, SEARCH_EMBEDDINGS


def tied(numbers: list[int], user: str, world: World) -> Iterator[Record]:
    """Searches of different words that happened, and arrived, at the world's time."""
    for record in world.searches(numbers, user):
        document = json.loads(record.data)
        number = int(record.sequence) - 1000
        document |= {
            "query": ("ocean waves", "exam nerves", "anger")[number % 3],
            "event_timestamp": world.now.isoformat(),
        }
        yield record._replace(arrived_us=to_micros(world.now), data=json.dumps(document).encode())


def store(folder: Path, address: str, world: World) -> FeatureStore:
    found = FeatureStore(
        config=RepoConfig(
            project=f"{folder.name}_{world.query}",
            provider="local",
            registry=str(folder / "registry.pb"),
            online_store=StillpointOnlineStoreConfig(connection_string=address),
            offline_store=StillpointOfflineStoreConfig(lake_root=world.settings.lake),
            batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
            entity_key_serialization_version=3,
        )
    )
    rows = FileSource(
        name="rows",
        path=f"{world.settings.lake}/{feature_dataset(SEARCH_EMBEDDINGS)}",
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    types = {"user_id": String, "search_embedding": Array(Float32), "search_count_24h": Int64}
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name=SEARCH_EMBEDDINGS.name,
        entities=[user],
        ttl=timedelta(0),
        schema=[Field(name=name, dtype=dtype) for name, dtype in types.items()],
        source=PushSource(name="push", batch_source=rows),
    )
    found.apply([user, view])
    return found


def online(address: str, project: str) -> dict[bytes, list[Any]]:
    """Return what is stored of the view, times included, by the keys without the project's name."""
    client, view = connect(address), ViewLayout.of(SEARCH_EMBEDDINGS)
    fields = [*view.fields, view.event_field, view.created_field]
    keys = project_keys(client, project, ["user_id"])
    return {key.removesuffix(project.encode()): client.hmget(key, fields) for key in keys}


@pytest.mark.parametrize(
    "batches", [[[1, 2, 3]], [[1], [2, 3]], [[3], [2], [1]]], ids=["one batch", "two", "three, turned"]
)
def test_the_stream_a_fill_and_a_push_leave_the_same_row_of_equal_times(
    batches: list[list[int]], tmp_path: Path, redis_server: RedisServer, unique: str
) -> None:
    world = World(tmp_path, redis_server, unique)
    processor = world.processor()
    for number, numbers in enumerate(batches):
        records = [record for user in ("u1", "u2") for record in tied(numbers, user, world)]
        processor.process(Parts(records, 1), number)
    address = redis_server.connection_string
    rows = Lake(world.lake.objects, FEATURES).read(feature_dataset(SEARCH_EMBEDDINGS))
    assert rows.num_rows >= 2 * len(batches)
    assert set(rows["event_timestamp"].to_pylist()) == {world.now}
    learned = [row["created_timestamp"] for row in rows.to_pylist() if row["user_id"] == "u1"]
    assert learned == sorted(learned)  # the stream counts on from its last row, so that a later batch is learned later
    streamed = online(address, f"p_{unique}")
    assert len(streamed) == 2
    assert all(None not in stored for stored in streamed.values())

    for way in ("filled", "pushed", "pushed_row_by_row"):
        (tmp_path / way).mkdir()
        made = store(tmp_path / way, address, world)
        frame: pd.DataFrame = rows.to_pandas()
        if way == "filled":
            made.materialize(world.now - timedelta(days=1), world.now + timedelta(seconds=1))
        elif way == "pushed":
            made.push("push", frame, to=PushMode.ONLINE)
        else:
            for row in range(len(frame)):
                made.push("push", frame.iloc[[row]], to=PushMode.ONLINE)
        assert online(address, made.project) == streamed, way
        spine = pd.DataFrame({"user_id": ["u1", "u2"], "event_timestamp": [world.now] * 2})
        joined = made.get_historical_features(spine, [f"{SEARCH_EMBEDDINGS.name}:search_count_24h"]).to_df()
        read = made.get_online_features([f"{SEARCH_EMBEDDINGS.name}:search_count_24h"], {"user_id": ["u1", "u2"]})
        assert joined["search_count_24h"].tolist() == read.to_dict()["search_count_24h"] == [3, 3]
