"""Feast stores over the offline plugin."""

import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.repo_config import RepoConfig

from tests.support.plays import ROWS, USER, plays_view, source_table


@pytest.fixture
def open_store(tmp_path):
    """Open a Feast store over the plugin; keyword arguments are settings of the offline store."""

    def open_(**settings):
        online = settings.pop("online", {"type": "sqlite", "path": str(tmp_path / "online.db")})
        top = {"coerce_tz_aware": settings.pop("coerce_tz_aware", False)}
        return FeatureStore(
            config=RepoConfig(
                project="offline_contract",
                provider="local",
                registry=str(tmp_path / "registry.db"),
                online_store=online,
                offline_store={"type": "stillpoint.stores.offline.StillpointOfflineStore", **settings},
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
                entity_key_serialization_version=3,
                repo_path=tmp_path,
                **top,
            )
        )

    return open_


@pytest.fixture
def plays(tmp_path, open_store):
    pq.write_table(source_table(ROWS), tmp_path / "plays.parquet")
    store = open_store()
    store.apply([USER, plays_view(tmp_path / "plays.parquet")])
    return store
