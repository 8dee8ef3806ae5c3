"""Defects of the installed Feast's Spark store: each test fails the day Feast mends it.

Ours on Spark is compared with ours on one machine in `tests/contracts/offline/test_on_spark.py`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.repo_config import RepoConfig
from feast.types import Int64
from pyspark.sql import SparkSession

NOW = datetime(2026, 3, 10, tzinfo=UTC)

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> FeatureStore:
    """A view of users and contents, of which one row was replayed twice."""
    return _store(tmp_path_factory.mktemp("spark"))


def _store(folder: Path) -> FeatureStore:
    rows = [(1, 11, 5), (11, 1, 7), (3, 3, 9), (3, 3, 9)]
    source = folder / "pairs.parquet"
    pq.write_table(
        pa.table(
            {
                "user": [row[0] for row in rows],
                "content": [row[1] for row in rows],
                "score": [row[2] for row in rows],
                "event_timestamp": pa.array([NOW - timedelta(hours=1)] * len(rows), pa.timestamp("us", tz="UTC")),
            }
        ),
        source,
    )
    store = FeatureStore(
        config=RepoConfig(
            project="spark_facts",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            offline_store={"type": "spark"},
            entity_key_serialization_version=3,
        )
    )
    entities = [Entity(name=name, join_keys=[name], value_type=ValueType.INT64) for name in ("user", "content")]
    view = FeatureView(
        name="pairs",
        entities=entities,
        ttl=timedelta(days=1),
        schema=[Field(name=name, dtype=Int64) for name in ("user", "content", "score")],
        source=SparkSource(name="source", path=str(source), file_format="parquet", timestamp_field="event_timestamp"),
    )
    store.apply([*entities, view])
    return store


def joined(store: FeatureStore, rows: list[tuple[int, int]]) -> list[tuple[Any, ...]]:
    spine = pd.DataFrame(
        {"user": [row[0] for row in rows], "content": [row[1] for row in rows], "event_timestamp": [NOW] * len(rows)}
    )
    found = store.get_historical_features(entity_df=spine, features=["pairs:score"]).to_df()
    return sorted(found[["user", "content", "score"]].itertuples(index=False, name=None))


def test_feast_returns_a_label_row_once_per_replay_of_its_source_row(store: FeatureStore) -> None:
    assert joined(store, [(3, 3)]) == [(3, 3, 9), (3, 3, 9)]


def test_feast_gives_a_pair_of_keys_the_values_of_another_pair(store: FeatureStore) -> None:
    assert set(joined(store, [(1, 11), (11, 1)])) != {(1, 11, 5), (11, 1, 7)}
