"""A point-in-time join returns every spine row once, with what was known then."""

from datetime import timedelta

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.data_source import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int64, String

from tests.support.plays import ROWS, USER, ask, at, plays_view, source_table, spine, values


def test_every_spine_row_comes_back_once_in_order_duplicates_and_misses_included(plays):
    rows = [("u2", at(1)), ("u1", at(0.5)), ("u1", at(0.5)), ("nobody", at(1)), ("u1", at(-1)), ("u2", at(9))]
    job = ask(plays, rows)
    assert job.to_arrow()["user_id"].to_pylist() == [user for user, _ in rows]
    assert values(job) == [20, 10, 10, None, None, None]


def test_an_age_of_exactly_the_ttl_counts_and_a_microsecond_more_does_not(plays):
    rows = [("u2", at(2)), ("u2", at(2) + timedelta(microseconds=1))]
    assert values(ask(plays, rows)) == [20, None]


def test_of_rows_of_one_moment_the_one_created_last_counts(plays):
    assert values(ask(plays, [("u1", at(1))])) == [12]


def test_feasts_flag_joins_only_what_was_known_then(plays):
    job = ask(plays, [("u1", at(1)), ("u1", at(2.5))], filter_by_created_timestamp=True)
    assert values(job) == [11, 11]


def test_the_cutoff_is_a_setting_of_the_store_too(plays, tmp_path, open_store):
    assert values(ask(open_store(created_cutoff=True), [("u1", at(1))])) == [11]


def test_with_the_cutoff_a_view_without_created_times_is_unaffected(tmp_path, open_store):
    pq.write_table(source_table(ROWS[3:], created=False), tmp_path / "plain.parquet")
    store = open_store(created_cutoff=True)
    store.apply([USER, plays_view(tmp_path / "plain.parquet", created="")])
    assert values(ask(store, [("u2", at(1))])) == [20]


def test_reading_in_small_chunks_and_partitions_changes_nothing(plays, open_store):
    rows = [(user, at(hours / 2)) for user in ("u1", "u2", "u3") for hours in range(-1, 8)]
    whole = values(ask(plays, rows))
    assert values(ask(open_store(chunk_rows=1, rows_in_memory=1), rows)) == whole
    assert values(ask(open_store(chunk_rows=3), rows)) == whole


def test_composite_keys_do_not_collide_and_null_keys_match_nothing(tmp_path, open_store):
    pq.write_table(
        pa.table(
            {
                "a": pa.array([1, 11, None], pa.int64()),
                "b": pa.array([11, 1, 1], pa.int64()),
                "event_timestamp": pa.array([at(0)] * 3, pa.timestamp("us", tz="UTC")),
                "score": [1.0, 2.0, 3.0],
            }
        ),
        tmp_path / "pairs.parquet",
    )
    a, b = Entity(name="a", value_type=ValueType.INT64), Entity(name="b", value_type=ValueType.INT64)
    view = FeatureView(
        name="pairs",
        entities=[a, b],
        schema=[Field(name="a", dtype=Int64), Field(name="b", dtype=Int64), Field(name="score", dtype=Float64)],
        source=FileSource(path=str(tmp_path / "pairs.parquet"), timestamp_field="event_timestamp"),
    )
    store = open_store()
    store.apply([a, b, view])
    frame = pd.DataFrame(
        {"a": [1, 11, None, 111], "b": [11, 1, 1, 1], "event_timestamp": pd.to_datetime([at(1)] * 4, utc=True)}
    )
    job = store.get_historical_features(entity_df=frame, features=["pairs:score"])
    assert values(job, "score") == [1.0, 2.0, None, None]


def test_views_with_different_keys_join_to_one_spine_with_field_mapping_and_alias(tmp_path, open_store):
    pq.write_table(source_table(ROWS), tmp_path / "plays.parquet")
    pq.write_table(
        pa.table(
            {
                "cid": ["c1"],
                "event_timestamp": pa.array([at(0)], pa.timestamp("us", tz="UTC")),
                "len": pa.array([300], pa.int64()),
                "vector": pa.array([[0.5, 1.5]], pa.list_(pa.float64())),
            }
        ),
        tmp_path / "contents.parquet",
    )
    content = Entity(name="content", join_keys=["content_id"], value_type=ValueType.STRING)
    contents = FeatureView(
        name="contents",
        entities=[content],
        schema=[
            Field(name="content_id", dtype=String),
            Field(name="seconds", dtype=Int64),
            Field(name="vector", dtype=Array(Float64)),
        ],
        source=FileSource(
            path=str(tmp_path / "contents.parquet"),
            timestamp_field="event_timestamp",
            field_mapping={"cid": "content_id", "len": "seconds"},
        ),
    )
    store = open_store(add_event_timestamps=True)
    store.apply([USER, content, plays_view(tmp_path / "plays.parquet"), contents])
    frame = spine([("u1", at(0.5)), ("u2", at(1))]).assign(content_id=["c1", "c2"])
    job = store.get_historical_features(
        entity_df=frame, features=["plays_view:plays", "contents:seconds", "contents:vector"]
    )
    table = job.to_arrow()
    assert table.column_names == [
        *("user_id", "event_timestamp", "content_id", "plays", "plays_view__event_timestamp"),
        *("seconds", "vector", "contents__event_timestamp"),
    ]
    assert table["plays"].to_pylist() == [10, 20]
    assert table["seconds"].to_pylist() == [300, None]
    assert table["vector"].to_pylist() == [[0.5, 1.5], None]
    assert table.schema.field("vector").type == pa.list_(pa.float64())
    assert table["contents__event_timestamp"].to_pylist() == [at(0), None]


def test_a_spine_may_be_arrow_polars_or_sql(plays):
    frame = spine([("u1", at(0.5)), ("u2", at(1))])
    for given in (pa.Table.from_pandas(frame), pl.from_pandas(frame)):
        assert values(plays.get_historical_features(entity_df=given, features=["plays_view:plays"])) == [10, 20]
    query = "SELECT user_id, event_timestamp FROM plays_view_source WHERE plays < 15 ORDER BY plays"
    assert values(plays.get_historical_features(entity_df=query, features=["plays_view:plays"])) == [10, 12, 12]


def test_without_a_spine_every_entity_is_answered_as_of_the_end(plays):
    job = plays.get_historical_features(features=["plays_view:plays"], start_date=at(0), end_date=at(1.5))
    assert dict(zip(values(job, "user_id"), values(job), strict=True)) == {"u1": 12, "u2": 20}


def test_on_demand_views_run_as_in_feast(tmp_path, open_store):
    pq.write_table(source_table(ROWS), tmp_path / "plays.parquet")
    view = plays_view(tmp_path / "plays.parquet")

    @on_demand_feature_view(
        sources=[view, RequestSource(name="request", schema=[Field(name="bonus", dtype=Int64)])],
        schema=[Field(name="total", dtype=Int64)],
        mode="pandas",
    )
    def totals(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"total": inputs["plays"] + inputs["bonus"]})

    store = open_store()
    store.apply([USER, view, totals])
    frame = spine([("u1", at(0.5)), ("u2", at(1))]).assign(bonus=[1, 2])
    job = store.get_historical_features(entity_df=frame, features=["plays_view:plays", "totals:total"])
    assert values(job, "total") == [11, 22]
