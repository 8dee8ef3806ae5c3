"""`materialize` leaves the newest rows readable in a real Redis, whatever happens around it."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.feature_view import FeatureViewState
from feast.repo_config import RepoConfig
from feast.types import Array, Bool, Float32, Int64, String

from stillpoint.errors import InvalidInput
from stillpoint.stores.engine import engine_of
from stillpoint.stores.materialize import sink as engine_sink
from stillpoint.stores.materialize.pace import Progress, at_most, while_absent

T0 = datetime(2026, 3, 1, tzinfo=UTC)
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def at(hours):
    return T0 + timedelta(hours=hours)


def table(rows):
    """Rows are (user, hour, created hour, plays)."""
    utc = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "uid": pa.array([row[0] for row in rows], pa.string()),
            "event_timestamp": pa.array([at(row[1]) for row in rows], utc),
            "created_timestamp": pa.array([at(row[2]) for row in rows], utc),
            "plays": pa.array([row[3] for row in rows], pa.int64()),
            "vector": pa.array([[float(row[3]), 0.5] for row in rows], pa.list_(pa.float32())),
            "happy": pa.array([None for _ in rows], pa.bool_()),
        }
    )


ROWS = [("u1", 0, 0, 1), ("u1", 2, 2, 3), ("u1", 1, 1, 2), ("u1", 2, 3, 4), ("u2", 0, 0, 20), (None, 5, 5, 99)]


@pytest.fixture(params=["rows", "columns", "ours"])
def sink(request, monkeypatch):
    """Write by Feast's rows and by the ordered writer's columns, read by stock Feast; then ours on both sides."""
    if request.param == "columns":
        monkeypatch.setattr(engine_sink, "OUR_STORE", "feast.infra.online_stores.redis")
    return request.param


@pytest.fixture
def open_store(tmp_path, redis_server, sink):
    kind = "stillpoint.stores.online.StillpointOnlineStore" if sink == "ours" else "redis"
    project = f"fill_{uuid.uuid4().hex[:8]}"

    def open_(**engine):
        return FeatureStore(
            config=RepoConfig(
                project=project,
                provider="local",
                registry=str(tmp_path / "registry.db"),
                online_store={"type": kind, "connection_string": redis_server.connection_string},
                offline_store={"type": "stillpoint.stores.offline.StillpointOfflineStore", "chunk_rows": 2},
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine", "batch_rows": 1, **engine},
                entity_key_serialization_version=3,
                repo_path=tmp_path,
            )
        )

    return open_


@pytest.fixture
def store(tmp_path, open_store):
    pq.write_table(table(ROWS), tmp_path / "source.parquet")
    source = FileSource(
        name="source",
        path=str(tmp_path / "source.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        field_mapping={"uid": "user_id"},
    )
    view = FeatureView(
        name="plays",
        entities=[USER],
        ttl=timedelta(days=3650),
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="plays", dtype=Int64),
            Field(name="vector", dtype=Array(Float32)),
            Field(name="happy", dtype=Bool),
        ],
        source=PushSource(name="push", batch_source=source),
    )
    opened = open_store()
    opened.apply([USER, view])
    return opened


def online(store, *users):
    return store.get_online_features(
        features=["plays:plays", "plays:vector", "plays:happy"], entity_rows=[{"user_id": user} for user in users]
    ).to_dict()


def test_the_latest_row_of_each_entity_is_readable(store):
    store.materialize(at(0), at(9))
    found = online(store, "u1", "u2", "u3")
    assert found["plays"] == [4, 20, None]
    assert found["vector"] == [[4.0, 0.5], [20.0, 0.5], None]
    assert found["happy"] == [None, None, None]


def test_rows_outside_the_range_are_left_out_and_its_ends_belong_to_it(store):
    store.materialize(at(0), at(1))
    assert online(store, "u1")["plays"] == [2]
    store.materialize_incremental(at(2))
    assert online(store, "u1")["plays"] == [4]


def test_a_newer_value_of_a_live_stream_survives_a_fill_that_reads_older_rows(store):
    newer = pd.DataFrame(
        {
            "user_id": ["u1"],
            "event_timestamp": [at(3)],
            "created_timestamp": [at(3)],
            "plays": [77],
            "vector": [[7.0, 7.0]],
            "happy": [True],
        }
    )
    store.push("push", newer)
    store.materialize(at(0), at(9))
    assert online(store, "u1")["plays"] == [77]


def test_views_stay_readable_and_available_while_they_are_filled_again(store, open_store):
    store.materialize(at(0), at(9))
    seen = []

    def look(progress):
        other = open_store()
        seen.append((other.get_feature_view("plays").state, online(other, "u2")["plays"]))

    engine_of(store).on_progress = look
    store.materialize(at(0), at(9))
    assert seen
    assert all(found == (FeatureViewState.AVAILABLE_ONLINE, [20]) for found in seen)


def test_a_fill_that_is_stopped_half_way_is_completed_by_another_run(store):
    store.materialize(at(0), at(0))
    written = []

    def fail(progress):
        written.append(progress.rows)
        raise KeyboardInterrupt

    engine_of(store).on_progress = fail
    with pytest.raises(KeyboardInterrupt):
        store.materialize(at(0), at(9))
    assert written
    assert store.get_feature_view("plays").state is not FeatureViewState.MATERIALIZING
    engine_of(store).on_progress = None
    store.materialize(at(0), at(9))
    assert online(store, "u1", "u2")["plays"] == [4, 20]


def test_a_fill_waits_while_the_pause_file_exists(store, open_store, tmp_path):
    (tmp_path / "pause").touch()
    paused = open_store(pause_file=str(tmp_path / "pause"))
    fill = threading.Thread(target=paused.materialize, args=(at(0), at(9)))
    fill.start()
    fill.join(0.7)
    assert fill.is_alive()
    assert online(store, "u1")["plays"] == [None]
    (tmp_path / "pause").unlink()
    fill.join(20)
    assert online(store, "u1")["plays"] == [4]


def test_progress_is_told_with_rate_and_total(store):
    told = []
    engine_of(store).on_progress = told.append
    store.materialize(at(0), at(9))
    assert (told[-1].view, told[-1].rows, told[-1].total) == ("plays", 2, 2)
    assert told[-1].seconds_left == 0


def test_a_limit_on_the_rate_asks_to_wait_until_the_mean_is_below_it(tmp_path):
    progress = Progress(view="v", rows=100, total=200, seconds=1.0)
    assert at_most(50)(progress) == 1.0
    assert at_most(200)(progress) == 0.0
    assert while_absent(tmp_path / "none")(progress) == 0.0
    assert progress.seconds_left == 1.0


def test_another_batch_engine_is_refused_by_name(tmp_path):
    config = RepoConfig(project="p", provider="local", registry=str(tmp_path / "r.db"))
    with pytest.raises(InvalidInput, match="batch_engine is LocalComputeEngine"):
        engine_of(FeatureStore(config=config))
