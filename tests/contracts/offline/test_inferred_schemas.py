"""A view without a schema can be applied over any file and hive folder, and join, push, fill and read answer alike."""

from datetime import UTC, date, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureView, FileSource
from feast.data_source import PushMode, PushSource

from tests.support.plays import USER, at, spine

UTC_TIME = pa.timestamp("us", tz="UTC")
EARLY = datetime(2026, 3, 1, tzinfo=UTC)

COLUMNS = {
    "date32": pa.array([date(2026, 3, 1), None], pa.date32()),
    "date64": pa.array([date(2026, 3, 1), None], pa.date64()),
    "dictionary": pa.array(["calm", None]).dictionary_encode(),
    "float16": pa.array([1.5, None], pa.float16()),
    "fixed_binary": pa.array([b"ab", None], pa.binary(2)),
    "large_binary": pa.array([b"ab", None], pa.large_binary()),
    "uint8": pa.array([200, None], pa.uint8()),
    "texts": pa.array([["a", "b"], None], pa.list_(pa.field("element", pa.string()))),
    "large_list": pa.array([[1, 2], None], pa.large_list(pa.int64())),
    "encoded_texts": pa.array([["a"], None], pa.list_(pa.string())),
    "times": pa.array([EARLY, None], UTC_TIME),
}
FOLDERS = {
    "days": ("day", ["2026-03-01", "2026-03-02"]),
    "zip codes": ("zip", ["01234", "51234"]),
    "numbers": ("n", ["1", "2"]),
    "fractions": ("x", ["1.5", "2"]),
    "flags": ("flag", ["true", "false"]),
    "one is not there": ("word", ["calm", "__HIVE_DEFAULT_PARTITION__"]),
    "none is there": ("word", ["__HIVE_DEFAULT_PARTITION__"] * 2),
}


def rows(users, **columns):
    return pa.table({"user_id": users, "event_timestamp": pa.array([at(0)] * len(users), UTC_TIME), **columns})


def without_schema(store, path):
    source = FileSource(name="s", path=path, timestamp_field="event_timestamp")
    view = FeatureView(name="v", entities=[USER], source=PushSource(name="push", batch_source=source))
    store.apply([USER, view])
    return [feature.name for feature in store.get_feature_view("v").features]


def answers(store, features, users):
    """Return what join and read say of each user's features."""
    wanted = [f"v:{feature}" for feature in features]
    job = store.get_historical_features(entity_df=spine([(user, at(1)) for user in users]), features=wanted)
    joined = job.to_df()
    store.materialize(at(-1), at(9))
    read = store.get_online_features(features=wanted, entity_rows=[{"user_id": user} for user in users]).to_df()
    return {feature: (list(map(plain, joined[feature])), list(map(plain, read[feature]))) for feature in features}


def plain(value):
    if value is None or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, int | float | str | bytes | bool):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, date | datetime):
        return pd.Timestamp(value).tz_localize("UTC") if pd.Timestamp(value).tzinfo is None else pd.Timestamp(value)
    return value


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS.keys())
def test_any_type_of_a_file_is_inferred_and_join_and_read_agree(tmp_path, open_store, column):
    pq.write_table(rows(["u1", "u2"], f=column), tmp_path / "rows.parquet")
    store = open_store()
    assert without_schema(store, "rows.parquet") == ["f"]
    (joined, read) = answers(store, ["f"], ["u1", "u2", "u3"])["f"]
    assert joined == read
    assert joined[0] is not None
    assert joined[1:] == [None, None]


@pytest.mark.parametrize(("key", "values"), FOLDERS.values(), ids=FOLDERS.keys())
def test_a_hive_folder_without_a_schema_is_applied_pushed_joined_and_filled(tmp_path, open_store, key, values):
    for number, value in enumerate(values):
        folder = tmp_path / "hive" / f"{key}={value}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows([f"u{number}"], v=[number]), folder / f"{number}.parquet")
    store = open_store()
    assert sorted(without_schema(store, "hive")) == sorted([key, "v"])
    first = store.get_historical_features(entity_df=spine([("u0", at(1))]), features=[f"v:{key}"]).to_df()[key][0]
    pushed = pd.DataFrame({"user_id": ["u9"], "event_timestamp": [at(0)], "v": [9], key: [first]})
    store.push("push", pushed, to=PushMode.OFFLINE)
    found = answers(store, [key, "v"], ["u0", "u1", "u9"])
    assert found["v"] == ([0, 1, 9], [0, 1, 9])
    joined, read = found[key]
    assert joined == read
    assert joined[2] == joined[0] == plain(first)
    assert [value is None for value in joined[:2]] == ["DEFAULT" in value for value in values]
