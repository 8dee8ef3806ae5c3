"""Join, fill, push and read find a column by its stored name and by the view's, however the definition names it."""

import itertools
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.types import Int64, String

from stillpoint.stores.history.names import Names
from tests.support.plays import at, spine

MAPPING = {"uid": "user_id", "ts": "event_timestamp", "made": "created_timestamp", "n": "plays"}
UTC = pa.timestamp("us", tz="UTC")


def stored_rows():
    return pa.table(
        {
            "uid": ["u1", "u1", "u2"],
            "ts": pa.array([at(0), at(1), at(0)], UTC),
            "made": pa.array([at(0), at(1), at(0)], UTC),
            "n": pa.array([10, 11, 20], pa.int64()),
        }
    )


def definitions(path, *, event, created, key):
    """`key` is how the entity names its join key; a stored name is no field of the schema, since Feast refuses that."""
    user = Entity(name="user", join_keys=[key], value_type=ValueType.STRING)
    fields = [Field(name="plays", dtype=Int64)]
    fields += [Field(name=key, dtype=String)] if key not in MAPPING else []
    source = FileSource(
        name="source", path=str(path), timestamp_field=event, created_timestamp_column=created, field_mapping=MAPPING
    )
    pushed = PushSource(name="push", batch_source=source)
    return [
        user,
        FeatureView(name="plays_view", entities=[user], ttl=timedelta(days=1), schema=fields, source=pushed),
    ]


WAYS = list(
    itertools.product(["ts", "event_timestamp"], ["made", "created_timestamp", ""], ["uid", "user_id"]),
)


@pytest.mark.parametrize(("event", "created", "key"), WAYS)
def test_every_way_of_naming_a_mapped_column_joins_and_fills_alike(tmp_path, open_store, event, created, key):
    pq.write_table(stored_rows(), tmp_path / "rows.parquet")
    store = open_store()
    store.apply(definitions(tmp_path / "rows.parquet", event=event, created=created, key=key))
    frame = spine([("u1", at(5)), ("u2", at(5)), ("u3", at(5))]).rename(columns={"user_id": key})
    joined = store.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()
    store.materialize(at(-1), at(5))
    read = store.get_online_features(
        features=["plays_view:plays"], entity_rows=[{key: user} for user in ("u1", "u2", "u3")]
    ).to_dict()
    assert joined["plays"].to_pylist() == read["plays"] == [11, 20, None]


@pytest.mark.parametrize(("event", "created", "key"), WAYS)
@pytest.mark.parametrize("folder", [False, True])
def test_a_push_into_a_mapped_source_is_stored_under_its_names_and_joined(
    tmp_path, open_store, event, created, key, folder
):
    path = tmp_path / ("rows" if folder else "rows.parquet")
    if folder:
        path.mkdir()
    pq.write_table(stored_rows(), path / "a.parquet" if folder else path)
    store = open_store()
    store.apply(definitions(path, event=event, created=created, key=key))
    new = pd.DataFrame({"uid": ["u2"], "ts": [at(3)], "made": [at(3)], "n": [22]})
    store.push("push", new, to=PushMode.OFFLINE)
    frame = spine([("u1", at(5)), ("u2", at(5))]).rename(columns={"user_id": key})
    joined = store.get_historical_features(entity_df=frame, features=["plays_view:plays"]).to_arrow()
    assert joined["plays"].to_pylist() == [11, 22]
    store.materialize(at(-1), at(5))
    read = store.get_online_features(features=["plays_view:plays"], entity_rows=[{key: "u2"}]).to_dict()
    assert read["plays"] == [22]


@pytest.mark.parametrize(("event", "created", "key"), WAYS)
@pytest.mark.parametrize("pushed", ["stored names", "the view's names"])
def test_a_push_into_our_online_store_takes_either_names(
    tmp_path, redis_server, open_store, event, created, key, pushed
):
    pq.write_table(stored_rows(), tmp_path / "rows.parquet")
    ours = "stillpoint.stores.online.StillpointOnlineStore"
    store = open_store(online={"type": ours, "connection_string": redis_server.connection_string})
    store.apply(definitions(tmp_path / "rows.parquet", event=event, created=created, key=key))
    new = pd.DataFrame({"uid": ["u2"], "ts": [at(3)], "made": [at(3)], "n": [22]})
    store.push("push", new if pushed == "stored names" else new.rename(columns=MAPPING), to=PushMode.ONLINE)
    read = store.get_online_features(features=["plays_view:plays"], entity_rows=[{key: "u2"}]).to_dict()
    assert read["plays"] == [22]


def test_columns_that_exchange_their_names_are_not_confused(tmp_path, open_store):
    pq.write_table(
        pa.table({"user_id": ["u1"], "event_timestamp": pa.array([at(0)], UTC), "a": [1], "b": [2]}),
        tmp_path / "rows.parquet",
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    source = FileSource(
        name="source", path="rows.parquet", timestamp_field="event_timestamp", field_mapping={"a": "b", "b": "c"}
    )
    view = FeatureView(
        name="v",
        entities=[user],
        schema=[Field(name=name, dtype=kind) for name, kind in (("user_id", String), ("c", Int64))],
        source=source,
    )
    store = open_store()
    store.apply([user, view])
    joined = store.get_historical_features(entity_df=spine([("u1", at(1))]), features=["v:c"]).to_arrow()
    store.materialize(at(-1), at(5))
    read = store.get_online_features(features=["v:c"], entity_rows=[{"user_id": "u1"}]).to_dict()
    assert joined["c"].to_pylist() == read["c"] == [2]
    assert Names.of(source).stored("b") == "a"


def test_a_view_without_entities_is_filled_into_a_store_that_keeps_feasts_rows(tmp_path, open_store):
    pq.write_table(stored_rows(), tmp_path / "rows.parquet")
    source = FileSource(name="source", path="rows.parquet", timestamp_field="ts", field_mapping=MAPPING)
    view = FeatureView(name="v", entities=[], schema=[Field(name="plays", dtype=Int64)], source=source)
    store = open_store()
    store.apply([view])
    store.materialize(at(-1), at(5))
    assert store.get_online_features(features=["v:plays"], entity_rows=[{"__dummy_id": ""}]).to_dict()["plays"] == [11]
