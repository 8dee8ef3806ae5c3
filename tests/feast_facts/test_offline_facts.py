"""Defects of history in the installed Feast: each test fails the day Feast mends it; ours is right already.

`docs/why-not-stock-feast.md` names these tests as its proofs.
"""

from datetime import UTC, datetime, timedelta

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import ParquetFormat
from feast.data_source import PushMode
from feast.feature_view import FeatureViewState
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.offline_stores import duckdb as duckdb_store
from feast.repo_config import RepoConfig
from feast.types import Int64, String

from stillpoint.stores.engine import StillpointEngine

T0 = datetime(2026, 3, 1, tzinfo=UTC)
OURS = "stillpoint.stores.offline.StillpointOfflineStore"
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def at(hours):
    return T0 + timedelta(hours=hours)


@pytest.fixture
def open_store(tmp_path):
    def open_(offline, rows=(("u1", 0, 0, 10),), engine="local", **top):
        """Rows are (user, hour, created hour, plays)."""
        utc = pa.timestamp("us", tz="UTC")
        table = pa.table(
            {
                "user_id": [row[0] for row in rows],
                "event_timestamp": pa.array([at(row[1]) for row in rows], utc),
                "created_timestamp": pa.array([at(row[2]) for row in rows], utc),
                "plays": pa.array([row[3] for row in rows], pa.int64()),
            }
        )
        name = offline.rsplit(".", 1)[-1]
        pq.write_table(table, tmp_path / f"{name}.parquet")
        source = FileSource(
            name="source",
            path=str(tmp_path / f"{name}.parquet"),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
        view = FeatureView(
            name="plays",
            entities=[USER],
            ttl=timedelta(hours=2),
            schema=[Field(name="user_id", dtype=String), Field(name="plays", dtype=Int64)],
            source=PushSource(name="push", batch_source=source),
        )
        store = FeatureStore(
            config=RepoConfig(
                project="facts",
                provider="local",
                registry=str(tmp_path / f"{name}.db"),
                online_store={"type": "sqlite", "path": str(tmp_path / f"{name}-online.db")},
                offline_store={"type": offline},
                batch_engine={"type": engine},
                entity_key_serialization_version=3,
                **top,
            )
        )
        store.apply([USER, view])
        return store

    return open_


def join(store, rows, **arguments):
    frame = pd.DataFrame(
        {"user_id": [row[0] for row in rows], "event_timestamp": pd.to_datetime([row[1] for row in rows], utc=True)}
    )
    return store.get_historical_features(entity_df=frame, features=["plays:plays"], **arguments).to_df()


LABELS = [("u1", at(1)), ("u1", at(1)), ("u1", at(9)), ("u1", at(-1))]


def test_feasts_default_store_loses_label_rows_that_are_stale_in_the_future_or_double(open_store):
    assert len(join(open_store("dask"), LABELS)) < len(LABELS)


def test_ours_returns_every_label_row_in_order(open_store):
    found = join(open_store(OURS), LABELS)
    assert found["plays"].astype(object).where(found["plays"].notna(), None).tolist() == [10, 10, None, None]


CORRECTED = (("u1", 0, 0, 10), ("u1", 0, 5, 99))


@pytest.mark.parametrize("offline", ["dask", "duckdb", OURS])
def test_a_correction_learned_after_the_label_leaks_into_training_by_default(open_store, offline):
    """The same for ours, which keeps Feast's default; `created_cutoff: true` is the way out."""
    assert join(open_store(offline, CORRECTED), [("u1", at(1))])["plays"].tolist() == [99]


def test_our_cutoff_is_a_setting_and_joins_what_was_known(open_store, tmp_path):
    store = open_store(OURS, CORRECTED)
    store.config.offline_store.created_cutoff = True
    assert join(store, [("u1", at(1))])["plays"].tolist() == [10]


@pytest.mark.parametrize("offline", ["dask", "duckdb"])
def test_stock_stores_refuse_arrow_and_sql_spines(open_store, offline):
    store = open_store(offline)
    for spine in (pa.table({"user_id": ["u1"], "event_timestamp": [at(1)]}), "SELECT * FROM source"):
        with pytest.raises((AttributeError, ValueError)):
            store.get_historical_features(entity_df=spine, features=["plays:plays"]).to_arrow()


def test_feast_takes_a_time_without_a_zone_for_utc_before_any_store_sees_it(open_store):
    """Set `coerce_tz_aware: false` in `feature_store.yaml`, and ours refuses such a spine."""
    naive = pd.DataFrame({"user_id": ["u1"], "event_timestamp": [at(1).replace(tzinfo=None)]})
    for offline in ("duckdb", OURS):
        found = open_store(offline).get_historical_features(entity_df=naive, features=["plays:plays"]).to_df()
        assert found["plays"].tolist() == [10]


@pytest.mark.parametrize(
    ("engine", "during"),
    [
        ("local", FeatureViewState.MATERIALIZING),
        ("stillpoint.stores.engine.StillpointEngine", FeatureViewState.AVAILABLE_ONLINE),
    ],
)
def test_the_second_fill_makes_views_unreadable_and_ours_does_not(open_store, monkeypatch, engine, during):
    store = open_store("duckdb", engine=engine)
    store.materialize(at(-1), at(1))
    seen = []
    write = store._get_provider().online_store.online_write_batch

    def look(*arguments, **named):
        seen.append(FeatureStore(config=store.config).get_feature_view("plays").state)
        write(*arguments, **named)

    monkeypatch.setattr(store._get_provider().online_store, "online_write_batch", look)
    store.materialize(at(-1), at(1))
    assert seen == [during]
    assert isinstance(store._get_provider().batch_engine, LocalComputeEngine | StillpointEngine)


def test_a_push_to_feasts_default_store_rewrites_the_source_under_its_readers(open_store, tmp_path):
    store = open_store("dask")
    path = tmp_path / "dask.parquet"
    with path.open("rb") as reader:
        store.push("push", pq.read_table(path).to_pandas(), to=PushMode.OFFLINE)
        assert len(reader.read()) == path.stat().st_size, "the reader's own open file has changed under it"


def test_feasts_duckdb_store_reads_parquet_on_s3_without_the_sources_endpoint(monkeypatch):
    """And through an extension, `httpfs`, that DuckDB downloads when it is first needed: here that is forbidden to it.

    Ours reads from any endpoint and downloads nothing: `tests/contracts/offline/test_lake.py`.
    """
    source = FileSource(
        name="source",
        path="s3://bucket/plays.parquet",
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        s3_endpoint_override="http://127.0.0.1:1",
    )
    told = []
    monkeypatch.setattr(ibis, "read_parquet", lambda *arguments, **named: told.append((arguments, named)))
    duckdb_store._read_data_source(source, repo_path="")
    assert told == [(("s3://bucket/plays.parquet",), {})]
    forbidden = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    with (
        duckdb.connect(config=forbidden) as connection,
        pytest.raises(duckdb.Error, match="httpfs"),
    ):
        connection.sql("SELECT * FROM read_parquet('s3://bucket/plays.parquet')")


def test_our_push_leaves_a_reader_its_whole_old_file(open_store, tmp_path):
    store = open_store(OURS)
    path = tmp_path / "StillpointOfflineStore.parquet"
    with path.open("rb") as reader:
        store.push("push", pq.read_table(path).to_pandas(), to=PushMode.OFFLINE)
        assert pq.read_table(reader).num_rows == 1
    assert pq.read_table(path).num_rows == 2
