"""Does the offline store keep Feast's contract, and every spine row?"""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode, RequestSource
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.on_demand_feature_view import on_demand_feature_view
from feast.repo_config import RepoConfig
from feast.types import Array, Float64, Int64, String

from stillpoint.errors import InvalidInput, InvalidSpine

T0 = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(hours):
    return T0 + hours * HOUR


@pytest.fixture
def open_store(tmp_path):
    """Open a Feast store over the plugin; keyword arguments are settings of the offline store."""

    def open_(**settings):
        top = {"coerce_tz_aware": settings.pop("coerce_tz_aware", False)}
        return FeatureStore(
            config=RepoConfig(
                project="offline_contract",
                provider="local",
                registry=str(tmp_path / "registry.db"),
                online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
                offline_store={"type": "stillpoint.stores.offline.StillpointOfflineStore", **settings},
                entity_key_serialization_version=3,
                repo_path=tmp_path,
                **top,
            )
        )

    return open_


def source_table(rows, *, unit="us", zone="UTC", created=True):
    kind = pa.timestamp(unit, tz=zone)
    columns = {
        "user_id": pa.array([row[0] for row in rows], pa.string()),
        "event_timestamp": pa.array([row[1] for row in rows], kind),
    }
    if created:
        columns["created_timestamp"] = pa.array([row[2] for row in rows], kind)
    columns["plays"] = pa.array([row[3] for row in rows], pa.int64())
    return pa.table(columns)


USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def plays_view(path, *, name="plays_view", ttl=timedelta(hours=2), created="created_timestamp", **source):
    return FeatureView(
        name=name,
        entities=[USER],
        ttl=ttl,
        schema=[Field(name="user_id", dtype=String), Field(name="plays", dtype=Int64)],
        source=FileSource(
            name=f"{name}_source",
            path=str(path),
            timestamp_field="event_timestamp",
            created_timestamp_column=created,
            **source,
        ),
    )


def spine(rows):
    return pd.DataFrame(
        {"user_id": [row[0] for row in rows], "event_timestamp": pd.to_datetime([row[1] for row in rows], utc=True)}
    )


def values(job, column="plays"):
    return job.to_arrow()[column].to_pylist()


ROWS = [
    ("u1", at(0), at(0), 10),
    ("u1", at(1), at(1), 11),
    ("u1", at(1), at(5), 12),  # a correction of the row before, learned four hours later
    ("u2", at(0), at(0), 20),
]


@pytest.fixture
def plays(tmp_path, open_store):
    pq.write_table(source_table(ROWS), tmp_path / "plays.parquet")
    store = open_store()
    store.apply([USER, plays_view(tmp_path / "plays.parquet")])
    return store


def ask(store, rows, **arguments):
    return store.get_historical_features(entity_df=spine(rows), features=["plays_view:plays"], **arguments)


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


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_units_and_zones_of_source_and_spine_may_differ(tmp_path, open_store, unit, zone):
    table = source_table(ROWS[:2], unit="us", zone="UTC")
    for column in ("event_timestamp", "created_timestamp"):
        kind = pa.timestamp(unit, tz=zone) if zone else pa.timestamp(unit)
        moments = table[column] if zone else table[column].cast(pa.timestamp("us"))
        table = table.set_column(table.column_names.index(column), column, moments.cast(kind))
    pq.write_table(table, tmp_path / "plays.parquet")
    store = open_store()
    store.apply([USER, plays_view(tmp_path / "plays.parquet")])
    kolkata = timezone(timedelta(hours=5, minutes=30))
    mixed = pd.DataFrame(
        {
            "user_id": ["u1", "u1"],
            "event_timestamp": pd.Series([at(0.5).astimezone(kolkata), at(1)], dtype=object),
        }
    )
    job = store.get_historical_features(entity_df=mixed, features=["plays_view:plays"])
    assert values(job) == [10, 11]


def test_a_folder_may_mix_files_of_different_units_and_lack_a_later_feature(tmp_path, open_store):
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(source_table(ROWS[:1], unit="ms").drop(["plays"]), folder / "a.parquet")
    pq.write_table(source_table(ROWS[1:2], unit="ns"), folder / "b.parquet")
    store = open_store()
    store.apply([USER, plays_view(folder)])
    assert values(ask(store, [("u1", at(0.5)), ("u1", at(1.5))])) == [None, 11]


def test_hive_partitions_are_columns_and_globs_name_files(tmp_path, open_store):
    for day, row in (("2026-03-01", ROWS[0]), ("2026-03-02", ROWS[3])):
        (tmp_path / "hive" / f"date={day}").mkdir(parents=True)
        pq.write_table(source_table([row]), tmp_path / "hive" / f"date={day}" / "part.parquet")
    store = open_store()
    store.apply([USER, plays_view(tmp_path / "hive"), plays_view(tmp_path / "hive/*-01/*.parquet", name="first_day")])
    job = store.get_historical_features(
        entity_df=spine([("u1", at(1)), ("u2", at(1))]),
        features=["plays_view:plays", "first_day:plays"],
        full_feature_names=True,
    )
    assert values(job, "plays_view__plays") == [10, 20]
    assert values(job, "first_day__plays") == [10, None]


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


def test_pulls_give_the_latest_or_all_rows_with_both_ends_included(plays):
    source = plays.get_feature_view("plays_view").batch_source
    offline, config = plays._get_provider().offline_store, plays.config
    arguments = {
        "config": config,
        "data_source": source,
        "join_key_columns": ["user_id"],
        "feature_name_columns": ["plays"],
        "timestamp_field": "event_timestamp",
        "created_timestamp_column": "created_timestamp",
        "start_date": at(0),
        "end_date": at(1),
    }
    assert sorted(values(offline.pull_latest_from_table_or_query(**arguments))) == [12, 20]
    assert values(offline.pull_all_from_table_or_query(**arguments)) == [10, 11, 12, 20]


def test_a_saved_dataset_is_kept_and_read_again(plays, tmp_path):
    for name, path in (("one_file", tmp_path / "saved.parquet"), ("a_folder", tmp_path / "saved")):
        job = ask(plays, [("u1", at(0.5)), ("u2", at(1))])
        plays.create_saved_dataset(from_=job, name=name, storage=SavedDatasetFileStorage(path=str(path)))
        assert plays.get_saved_dataset(name).to_df()["plays"].tolist() == [10, 20]


def test_a_push_appends_a_file_to_a_folder_and_replaces_a_single_file_whole(tmp_path, open_store):
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(source_table(ROWS), folder / "first.parquet")
    pq.write_table(source_table(ROWS), tmp_path / "single.parquet")
    before = (folder / "first.parquet").stat().st_mtime_ns
    into_folder, into_file = plays_view(folder), plays_view(tmp_path / "single.parquet", name="single")
    store = open_store()
    for view in (into_folder, into_file):
        view.stream_source = PushSource(name=f"{view.name}_push", batch_source=view.batch_source)
    store.apply([USER, into_folder, into_file])
    frame = source_table([("u9", at(0), at(0), 90)]).to_pandas()
    for name in ("plays_view", "single"):
        store.push(f"{name}_push", frame, to=PushMode.OFFLINE)
        job = store.get_historical_features(entity_df=spine([("u9", at(1)), ("u2", at(1))]), features=[f"{name}:plays"])
        assert values(job) == [90, 20]
    assert (folder / "first.parquet").stat().st_mtime_ns == before
    assert len(list(folder.glob("*.parquet"))) == 2


class TestBadInput:
    def test_a_time_without_a_zone_is_refused(self, plays):
        frame = spine([("u1", at(0.5))])
        frame["event_timestamp"] = frame["event_timestamp"].dt.tz_localize(None)
        with pytest.raises(InvalidSpine, match=r"'event_timestamp' has no time zone .*tz_localize"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"])

    def test_one_naive_time_among_others_is_refused_by_its_row(self, plays):
        times = pd.Series([at(0.5), at(1).replace(tzinfo=None)], dtype=object)
        frame = pd.DataFrame({"user_id": ["u1", "u1"], "event_timestamp": times})
        with pytest.raises(InvalidSpine, match="row 1 is 2026-03-01 01:00:00"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"])

    def test_a_missing_join_key_is_named_with_its_view(self, plays):
        frame = spine([("u1", at(0.5))]).rename(columns={"user_id": "person"})
        with pytest.raises(InvalidSpine, match=r"no column 'user_id', a join key of view 'plays_view'.*person"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()

    def test_an_unknown_feature_is_named(self, plays):
        with pytest.raises(Exception, match="nonsense"):
            plays.get_historical_features(entity_df=spine([("u1", at(0))]), features=["plays_view:nonsense"])

    def test_a_key_of_the_wrong_type_is_refused(self, plays):
        frame = spine([("u1", at(0.5))]).assign(user_id=[1])
        with pytest.raises(InvalidSpine, match=r"'user_id' of view 'plays_view': the spine holds Int64"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()

    def test_a_null_time_is_refused_by_its_row(self, plays):
        frame = spine([("u1", at(0.5)), ("u1", None)])
        with pytest.raises(InvalidSpine, match="null in row 1"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"])

    def test_text_in_a_column_declared_as_numbers_is_refused(self, tmp_path, open_store):
        table = source_table(ROWS)
        table = table.set_column(3, "plays", pa.array(["many"] * 4))
        pq.write_table(table, tmp_path / "text.parquet")
        store = open_store()
        store.apply([USER, plays_view(tmp_path / "text.parquet")])
        with pytest.raises(InvalidInput, match=r"view 'plays_view', feature 'plays' is declared Int64.*string"):
            ask(store, [("u1", at(0.5))]).to_arrow()

    def test_a_missing_source_is_named(self, tmp_path, open_store):
        store = open_store()
        store.apply([USER, plays_view(tmp_path / "absent.parquet")])
        with pytest.raises(InvalidInput, match=r"no file or folder at .*absent\.parquet"):
            ask(store, [("u1", at(0.5))]).to_arrow()

    def test_a_feature_whose_name_the_spine_uses_is_refused(self, plays):
        frame = spine([("u1", at(0.5))]).assign(plays=[1])
        with pytest.raises(InvalidSpine, match="already a column of the spine"):
            plays.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()


def test_an_integer_key_with_a_missing_value_arrives_as_floats_and_still_matches(tmp_path, open_store):
    table = source_table([("1", at(0), at(0), 5)]).set_column(0, "user_id", pa.array([1], pa.int32()))
    pq.write_table(table, tmp_path / "ints.parquet")
    store = open_store()
    entity = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    view = plays_view(tmp_path / "ints.parquet")
    store.apply([entity, view])
    frame = spine([("u1", at(0.5)), ("u1", at(0.5))]).assign(user_id=[1.0, np.nan])
    assert values(store.get_historical_features(entity_df=frame, features=["plays_view:plays"])) == [5, None]
