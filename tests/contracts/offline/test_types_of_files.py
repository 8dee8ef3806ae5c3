"""Each file of a source is read in its own type, towards the declared one, and a push never changes a value."""

from datetime import date
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FeatureView, Field, FileSource, PushSource
from feast.data_source import PushMode
from feast.repo_config import RepoConfig
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, String, UnixTimestamp

from stillpoint.errors import InvalidInput
from stillpoint.lake.objects import open_objects
from stillpoint.lake.tables import Lake
from stillpoint.stores.history.write import PushedRows, write_to_lake
from tests.support.plays import USER, at, spine, values
from tests.support.wellness import FEATURES

US = pa.timestamp("us", tz="UTC")


def rows(kind, values, *, users=None, event=US, more=None):
    users = users or [f"u{number}" for number in range(len(values))]
    return pa.table(
        {
            "user_id": users,
            "event_timestamp": pa.array([at(0)] * len(values), US).cast(event),
            "value": pa.array(values, kind),
            **(more or {}),
        }
    )


def stats(path, dtype, *, key=String, entity=USER):
    source = FileSource(name="stats_source", path=str(path), timestamp_field="event_timestamp")
    view = FeatureView(
        name="stats",
        entities=[entity],
        schema=[Field(name=entity.join_key, dtype=key), Field(name="value", dtype=dtype)],
        source=source,
    )
    view.stream_source = PushSource(name="stats_push", batch_source=source)
    return view


@pytest.fixture
def stored_stats(tmp_path, redis_server, unique):
    """Open a store over one view and its files, with Redis and our engine."""

    def open_(path, dtype, *, key=String, entity=USER, **offline):
        store = FeatureStore(
            config=RepoConfig(
                project=unique,
                provider="local",
                registry=str(tmp_path / "registry.db"),
                online_store={
                    "type": "stillpoint.stores.online.StillpointOnlineStore",
                    "connection_string": redis_server.connection_string,
                },
                offline_store={"type": "stillpoint.stores.offline.StillpointOfflineStore", **offline},
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
                entity_key_serialization_version=3,
            )
        )
        store.apply([entity, stats(path, dtype, key=key, entity=entity)])
        return store

    return open_


def joined(store, users, key="user_id"):
    frame = spine([(user, at(1)) for user in users]).rename(columns={"user_id": key})
    return values(store.get_historical_features(entity_df=frame, features=["stats:value"]), "value")


def read(store, users, key="user_id"):
    return store.get_online_features(features=["stats:value"], entity_rows=[{key: user} for user in users]).to_dict()[
        "value"
    ]


def filled(store, users, key="user_id"):
    store.materialize(start_date=at(-1), end_date=at(1))
    return read(store, users, key)


FILES = [
    ("a whole number beyond 53 bits beside fractions", Int64, [(pa.int64(), [2**53 + 1]), (pa.float64(), [7.0])]),
    ("single beside double", Float64, [(pa.float32(), [1.5]), (pa.float64(), [0.1])]),
    ("double declared single", Float32, [(pa.float64(), [0.1]), (pa.float32(), [1.5])]),
    ("narrow beside wide", Int64, [(pa.int32(), [7]), (pa.int64(), [5_000_000_000])]),
    ("whole beside halves", Float64, [(pa.int64(), [7]), (pa.float64(), [2.5])]),
    ("growing decimals", Float64, [(pa.decimal128(4, 1), [Decimal("1.5")]), (pa.decimal128(20, 3), [Decimal("123456789.125")])]),
    ("a first file without rows or type", Int64, [(pa.null(), []), (pa.int64(), [7])]),
    ("a first file without rows of another kind", String, [(pa.int64(), []), (pa.string(), ["a"])]),
    ("a first file of nulls", Int64, [(pa.null(), [None]), (pa.int64(), [7])]),
    ("flags as numbers and flags", Bool, [(pa.int64(), [1]), (pa.bool_(), [False])]),
    ("lists of several widths", Array(Int64), [(pa.list_(pa.int32()), [[7]]), (pa.list_(pa.int64()), [[2**53 + 1]])]),
    ("vectors", Array(Float32), [(pa.list_(pa.float64(), 2), [[0.1, 0.5]]), (pa.list_(pa.float32()), [[1.5, 2.5]])]),
    ("encoded text", String, [(pa.dictionary(pa.int8(), pa.string()), ["a"]), (pa.large_string(), ["b"])]),
    ("times of several zones", UnixTimestamp, [(pa.timestamp("s", tz="+05:30"), [at(1)]), (pa.timestamp("ms"), [at(2).replace(tzinfo=None)])]),
    ("days", UnixTimestamp, [(pa.date32(), [date(2026, 3, 1)]), (US, [at(2)])]),
]  # fmt: skip


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("dtype", "files"), [case[1:] for case in FILES], ids=[case[0] for case in FILES])
def test_the_join_a_fill_and_a_push_agree_whatever_the_files_and_their_order(
    tmp_path, stored_stats, dtype, files, backwards
):
    folder, users = tmp_path / "folder", []
    folder.mkdir()
    for number, (kind, found) in enumerate(reversed(files) if backwards else files):
        mine = [f"u{len(users) + place}" for place in range(len(found))]
        pq.write_table(rows(kind, found, users=mine), folder / f"{number}.parquet")
        users += mine
    store = stored_stats(folder, dtype, chunk_rows=1)
    history = joined(store, users)
    assert [value is None for value in history] == [
        kind == pa.null() for kind, found in (reversed(files) if backwards else files) for _ in found
    ]
    assert filled(store, users) == history
    pushed = [f"p{place}" for place in range(len(users))]
    frame = pd.DataFrame({"user_id": pushed, "event_timestamp": [at(0)] * len(users), "value": history})
    keep = [place for place, value in enumerate(history) if value is not None]
    store.push("stats_push", frame.iloc[keep], to=PushMode.ONLINE_AND_OFFLINE)
    assert joined(store, pushed) == history
    assert read(store, pushed) == history


REFUSED = [
    (Int64, pa.int32(), 3_000_000_000, "int64"),
    (Int64, pa.uint8(), -1, "int64"),
    (Int64, pa.int8(), 200, "int64"),
    (Float64, pa.int64(), 1.75, "double"),
    (Float64, pa.decimal128(5, 2), 1.239, "double"),
    (Float64, pa.float16(), 1e6, "double"),
    (Float64, pa.float32(), 0.1, "double"),
    (Array(Int64), pa.list_(pa.int32()), [1, 3_000_000_000], "list"),
    (Array(Float64), pa.list_(pa.float16()), [1e6], "list"),
]


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize(("dtype", "column", "value", "kind"), REFUSED)
def test_a_push_that_a_column_cannot_hold_is_refused_and_writes_nothing(
    tmp_path, open_store, dtype, column, value, kind, single
):
    path = tmp_path / "folder" / "a.parquet"
    path.parent.mkdir()
    fine = [1, None] if isinstance(value, (int, float)) else [[1], None]
    pq.write_table(rows(column, fine), path)
    before = path.read_bytes()
    store = open_store()
    store.apply([USER, stats(path if single else path.parent, dtype)])
    frame = pd.DataFrame({"user_id": ["u7", "u8"], "event_timestamp": [at(0)] * 2, "value": [fine[0], value]})
    with pytest.raises(
        InvalidInput, match=rf"view 'stats', column 'value', row 1: .* \({kind}.*cannot be kept exactly"
    ):
        store.push("stats_push", frame, to=PushMode.OFFLINE)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.glob("*.parquet")] == ["a.parquet"]


@pytest.mark.parametrize(
    ("dtype", "kind", "value"),
    [
        (Int64, pa.float64(), 2.5),
        (Int32, pa.int64(), 5_000_000_000),
        (Float64, pa.int64(), 2**53 + 1),
        (Float32, pa.float64(), 1e300),
        (Bool, pa.int64(), 2),
    ],
)
def test_a_stored_value_that_the_declared_type_cannot_hold_is_refused_by_join_and_fill(
    tmp_path, stored_stats, dtype, kind, value
):
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(rows(kind, [1, value], users=["u1", "u2"]), folder / "a.parquet")
    pq.write_table(rows(kind, [0], users=["u3"]), folder / "b.parquet")
    store = stored_stats(folder, dtype)
    assert joined(store, ["u1", "u3"]) == [1, 0]
    for ask in (joined, filled):
        with pytest.raises(
            Exception, match=r"view 'stats', column 'value', file .*a\.parquet, row 1: .* cannot be kept"
        ):
            ask(store, ["u1", "u2"])


def test_a_wrong_value_that_is_no_longer_the_latest_stops_no_fill(tmp_path, stored_stats):
    folder = tmp_path / "folder"
    folder.mkdir()
    pq.write_table(rows(pa.float64(), [2.5], users=["u1"]), folder / "a.parquet")
    newer = rows(pa.int64(), [3], users=["u1"]).set_column(1, "event_timestamp", pa.array([at(0.5)], US))
    pq.write_table(newer, folder / "b.parquet")
    store = stored_stats(folder, Int64)
    assert filled(store, ["u1"]) == joined(store, ["u1"]) == [3]


def test_a_new_field_of_a_struct_is_kept(tmp_path, open_store):
    from feast.types import Struct

    folder = tmp_path / "folder"
    folder.mkdir()
    old, new = pa.struct([("a", pa.int64())]), pa.struct([("a", pa.int64()), ("b", pa.string())])
    pq.write_table(rows(old, [{"a": 1}], users=["u1"]), folder / "a.parquet")
    pq.write_table(rows(new, [{"a": 2, "b": "x"}], users=["u2"]), folder / "b.parquet")
    store = open_store()
    store.apply([USER, stats(folder, Struct({"a": Int64, "b": String}))])
    assert joined(store, ["u1", "u2"]) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


ZONES = ["+05:30", "+02:30", "-03:00", "Z", "+00:00", "Europe/Oslo", "UTC", None]


@pytest.mark.parametrize("zone", ZONES)
def test_any_zone_in_any_column_is_read_asked_for_or_not(tmp_path, stored_stats, zone):
    event = pa.timestamp("us", tz=zone)
    nested = pa.array([[at(3)]], pa.list_(pa.timestamp("us", tz=zone)))
    table = rows(event, [at(2)], event=event, more={"unasked": pa.array([at(1)], event), "nested": nested})
    pq.write_table(table, tmp_path / "zoned.parquet")
    store = stored_stats(tmp_path / "zoned.parquet", UnixTimestamp)
    assert joined(store, ["u0"]) == filled(store, ["u0"]) == [at(2)]
    more = {"unasked": [at(1)], "nested": [[at(3)]]}
    frame = pd.DataFrame({"user_id": ["u9"], "event_timestamp": [at(0)], "value": [at(2)], **more})
    store.push("stats_push", frame, to=PushMode.OFFLINE)
    assert joined(store, ["u0", "u9"]) == [at(2), at(2)]


@pytest.mark.parametrize("pair", [("UTC", "Europe/Oslo"), ("+01:00", "+02:00"), ("UTC", None), (None, "+05:30")])
def test_files_of_one_folder_may_have_different_zones(tmp_path, stored_stats, pair):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, zone in enumerate(pair):
        table = rows(pa.int64(), [number], users=[f"u{number}"], event=pa.timestamp("us", tz=zone))
        pq.write_table(table, folder / f"{number}.parquet")
    store = stored_stats(folder, Int64, chunk_rows=1)
    assert joined(store, ["u0", "u1"]) == filled(store, ["u0", "u1"]) == [0, 1]


def test_a_lake_dataset_that_is_free_in_form_may_change_its_types(tmp_path, open_store):
    lake = Lake(open_objects(str(tmp_path / "lake")), FEATURES)
    for number, (kind, value) in enumerate([(pa.float64(), 3.0), (pa.int64(), 2**53 + 1)]):
        table = rows(kind, [value], users=[f"u{number}"], event=pa.timestamp("us", tz="+05:30"))
        pushed = PushedRows(view="stats", table=table)
        write_to_lake(lake, "free", pushed, event="event_timestamp", at=at(0))
    store = open_store(lake_root=str(tmp_path / "lake"), chunk_rows=1)
    store.apply([USER, stats(tmp_path / "lake" / "free", Int64)])
    assert joined(store, ["u0", "u1"]) == [3, 2**53 + 1]
    query = "SELECT user_id, event_timestamp, value AS label FROM stats_source ORDER BY user_id"
    table = store.get_historical_features(entity_df=query, features=["stats:value"]).to_arrow()
    assert table["label"].to_pylist() == table["value"].to_pylist() == [3, 2**53 + 1]


def test_a_query_reads_only_the_columns_that_it_names(tmp_path, open_store):
    for number, kind in enumerate((pa.int64(), pa.string())):
        more = {"mixed": pa.array([1]).cast(kind)}
        (tmp_path / "folder").mkdir(exist_ok=True)
        table = rows(pa.int64(), [number], users=[f"u{number}"], more=more)
        pq.write_table(table, tmp_path / "folder" / f"{number}.parquet")
    store = open_store()
    store.apply([USER, stats(tmp_path / "folder", Int64)])
    query = "SELECT user_id, event_timestamp FROM stats_source ORDER BY user_id"
    assert values(store.get_historical_features(entity_df=query, features=["stats:value"]), "value") == [0, 1]
    with pytest.raises(
        InvalidInput, match=r"column 'mixed', file .*1\.parquet: string is another kind of value than int64"
    ):
        store.get_historical_features(entity_df=query.replace("user_id,", "user_id, mixed,"), features=["stats:value"])
