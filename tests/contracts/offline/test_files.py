"""Source files are read and written as Feast's interface promises, whatever their units, folders and ages."""

from datetime import timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, PushSource, ValueType
from feast.data_source import PushMode
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from tests.support.plays import ROWS, USER, ask, at, plays_view, source_table, spine, values


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


def test_an_integer_key_with_a_missing_value_arrives_as_floats_and_still_matches(tmp_path, open_store):
    table = source_table([("1", at(0), at(0), 5)]).set_column(0, "user_id", pa.array([1], pa.int32()))
    pq.write_table(table, tmp_path / "ints.parquet")
    store = open_store()
    entity = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    view = plays_view(tmp_path / "ints.parquet")
    store.apply([entity, view])
    frame = spine([("u1", at(0.5)), ("u1", at(0.5))]).assign(user_id=[1.0, np.nan])
    assert values(store.get_historical_features(entity_df=frame, features=["plays_view:plays"])) == [5, None]
