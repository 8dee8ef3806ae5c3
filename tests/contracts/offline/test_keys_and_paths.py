"""Keys match whatever number type a file keeps them in, and a path means what exists under it."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.types import Int64, String

from stillpoint.errors import InvalidInput
from tests.support.plays import USER, at, source_table, values

US = pa.timestamp("us", tz="UTC")
NUMBER = Entity(name="number", join_keys=["number"], value_type=ValueType.INT64)
ZIP = Entity(name="zip", join_keys=["zip"], value_type=ValueType.STRING)


def view_of(path, entity, dtype):
    source = FileSource(name="source", path=str(path), timestamp_field="event_timestamp")
    view = FeatureView(
        name="view",
        entities=[entity],
        schema=[Field(name=entity.join_key, dtype=dtype), Field(name="value", dtype=Int64)],
        source=source,
    )
    view.stream_source = PushSource(name="push", batch_source=source)
    return view


def rows(**columns):
    count = len(next(iter(columns.values())))
    return pa.table({"event_timestamp": pa.array([at(0)] * count, US), **columns})


def ask(store, **columns):
    count = len(next(iter(columns.values())))
    frame = pd.DataFrame({"event_timestamp": pd.to_datetime([at(1)] * count, utc=True), **columns})
    return values(store.get_historical_features(entity_df=frame, features=["view:value"]), "value")


KEYS = [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(10, 0), pa.decimal128(12, 2)]


@pytest.mark.parametrize("stored", KEYS, ids=str)
@pytest.mark.parametrize("asked", ["int64", "int32", "float64", "decimal"])
def test_a_whole_key_matches_in_any_type_of_number(tmp_path, open_store, stored, asked):
    keys = pa.array([Decimal(1), Decimal(2)] if pa.types.is_decimal(stored) else [1, 2], stored)
    pq.write_table(rows(number=keys, value=[10, 20]), tmp_path / "keys.parquet")
    store = open_store()
    store.apply([NUMBER, view_of(tmp_path / "keys.parquet", NUMBER, Int64)])
    spine = [Decimal(2), Decimal(1), Decimal(3)] if asked == "decimal" else np.array([2, 1, 3], dtype=asked)
    assert ask(store, number=spine) == [20, 10, None]


def test_one_entity_has_one_latest_row_whatever_types_its_key_has_in_files(tmp_path, open_store):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, kind in enumerate((pa.int32(), pa.float64(), pa.int64())):
        pq.write_table(rows(number=pa.array([7], kind), value=[number]), folder / f"{number}.parquet")
    store = open_store(chunk_rows=1, rows_in_memory=1)
    store.apply([NUMBER, view_of(folder, NUMBER, Int64)])
    source = store.get_feature_view("view").batch_source
    job = store._get_provider().offline_store.pull_latest_from_table_or_query(
        store.config, source, ["number"], ["value"], "event_timestamp", None, at(-1), at(1)
    )
    assert job.to_arrow()["value"].to_pylist() == [2]
    assert ask(store, number=[7]) == [2]


def test_a_key_that_is_no_whole_number_is_refused_by_its_file_row_and_value(tmp_path, open_store):
    pq.write_table(rows(number=[1.0, 1.5], value=[10, 20]), tmp_path / "keys.parquet")
    store = open_store()
    store.apply([NUMBER, view_of(tmp_path / "keys.parquet", NUMBER, Int64)])
    with pytest.raises(
        InvalidInput, match=r"view 'view', column 'number', file .*keys\.parquet, row 1: 1\.5 \(double\)"
    ):
        ask(store, number=[1])


@pytest.mark.parametrize("folders", [("01234", "1234"), ("1234", "99"), ("a b", "ø%/")])
def test_a_folder_says_text_where_the_view_does(tmp_path, open_store, folders):
    from urllib.parse import quote

    for number, name in enumerate(folders):
        (tmp_path / "hive" / f"zip={quote(name, safe='')}").mkdir(parents=True)
        pq.write_table(rows(value=[number]), tmp_path / "hive" / f"zip={quote(name, safe='')}" / "part.parquet")
    store = open_store(chunk_rows=1)
    store.apply([ZIP, view_of(tmp_path / "hive", ZIP, String)])
    assert ask(store, zip=list(folders)) == [0, 1]
    frame = pd.DataFrame({"zip": ["00001"], "event_timestamp": [at(0)], "value": [7]})
    store.push("push", frame, to=PushMode.OFFLINE)
    assert ask(store, zip=[*folders, "00001"]) == [0, 1, 7]


def test_a_folder_says_a_number_where_the_view_does_and_a_wrong_one_is_named(tmp_path, open_store):
    for name in ("7", "08"):
        (tmp_path / "hive" / f"number={name}").mkdir(parents=True)
        pq.write_table(rows(value=[int(name)]), tmp_path / "hive" / f"number={name}" / "part.parquet")
    store = open_store()
    store.apply([NUMBER, view_of(tmp_path / "hive", NUMBER, Int64)])
    assert ask(store, number=[7, 8]) == [7, 8]
    (tmp_path / "hive" / "number=x").mkdir()
    pq.write_table(rows(value=[1]), tmp_path / "hive" / "number=x" / "part.parquet")
    with pytest.raises(InvalidInput, match=r"column 'number', file .*number=x.*: it is 'x' in the path"):
        ask(store, number=[7])


def test_files_without_a_type_of_their_own_for_zones_read_partitions_too(tmp_path, open_store):
    for name in ("01", "02"):
        (tmp_path / "hive" / f"zip={name}").mkdir(parents=True)
        table = rows(value=[int(name)])
        zoned = table.set_column(0, "event_timestamp", table["event_timestamp"].cast(pa.timestamp("us", tz="+05:30")))
        pq.write_table(zoned, tmp_path / "hive" / f"zip={name}" / "part.parquet")
    store = open_store()
    store.apply([ZIP, view_of(tmp_path / "hive", ZIP, String)])
    assert ask(store, zip=["02", "01", "1"]) == [2, 1, None]


@pytest.mark.parametrize("name", ["stats[1].parquet", "stats*.parquet", "what?.parquet"])
def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path, open_store, name):
    pq.write_table(rows(number=[1], value=[10]), tmp_path / name)
    pq.write_table(rows(number=[1], value=[99]), tmp_path / "stats1.parquet")
    store = open_store()
    store.apply([NUMBER, view_of(tmp_path / name, NUMBER, Int64)])
    frame = pd.DataFrame({"number": [2], "event_timestamp": [at(0)], "value": [20]})
    store.push("push", frame, to=PushMode.OFFLINE)
    assert ask(store, number=[1, 2]) == [10, 20]


def test_a_glob_below_a_folder_with_brackets_is_found(tmp_path, open_store):
    folder = tmp_path / "data[1]"
    folder.mkdir()
    pq.write_table(rows(number=[1], value=[10]), folder / "a.parquet")
    store = open_store()
    store.apply([NUMBER, view_of(folder / "*.parquet", NUMBER, Int64)])
    assert ask(store, number=[1]) == [10]


def test_files_called_parquet_in_any_case_are_all_read(tmp_path, open_store):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, name in enumerate(("a.parquet", "b.PARQUET", "c.Parquet", "d.pq", "e.parq")):
        pq.write_table(rows(number=[number], value=[number]), folder / name)
    (folder / "README.txt").write_text("no data")
    store = open_store()
    store.apply([NUMBER, view_of(folder, NUMBER, Int64)])
    assert ask(store, number=list(range(5))) == list(range(5))


def test_a_push_to_a_glob_is_refused_in_a_sentence(tmp_path, open_store):
    pq.write_table(rows(number=[1], value=[10]), tmp_path / "a.parquet")
    store = open_store()
    store.apply([NUMBER, view_of(tmp_path / "*.parquet", NUMBER, Int64)])
    frame = pd.DataFrame({"number": [2], "event_timestamp": [at(0)], "value": [20]})
    with pytest.raises(
        InvalidInput, match=r"view 'view': a push cannot choose a file of the glob .*; let the source's path"
    ):
        store.push("push", frame, to=PushMode.OFFLINE)


EMPTY = {
    "pandas without types": pd.DataFrame({"user_id": [], "event_timestamp": []}),
    "pandas without rows": pd.DataFrame(columns=["user_id", "event_timestamp"]),
    "pandas of floats": pd.DataFrame({"user_id": [], "event_timestamp": []}, dtype="float64"),
    "arrow of nulls": pa.table({"user_id": pa.nulls(0), "event_timestamp": pa.nulls(0)}),
}


@pytest.mark.parametrize("spine", EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.parametrize("coerce", [True, False])
def test_a_spine_without_rows_needs_no_types(tmp_path, open_store, spine, coerce):
    pq.write_table(
        source_table([("u1", at(0), at(0), 1)]).rename_columns(["user_id", "event_timestamp", "c", "value"]),
        tmp_path / "plays.parquet",
    )
    store = open_store(coerce_tz_aware=coerce)
    store.apply([USER, view_of(tmp_path / "plays.parquet", USER, String)])
    table = store.get_historical_features(entity_df=spine, features=["view:value"]).to_arrow()
    assert table.num_rows == 0
    assert table.schema.field("value").type == pa.int64()
