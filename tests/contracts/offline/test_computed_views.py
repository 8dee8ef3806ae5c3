"""A view that Feast must compute first (a function, aggregations, other views) is filled with what it computes."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import BatchFeatureView, FeatureView, Field, FileSource, PushSource, StreamFeatureView
from feast.aggregation import Aggregation
from feast.types import Float64, Int64, String

from stillpoint.errors import InvalidInput
from tests.support.plays import USER, at, spine

UTC = pa.timestamp("us", tz="UTC")
BIG = 2**53 + 1


@pytest.fixture
def store(tmp_path, open_store):
    pq.write_table(
        pa.table(
            {
                "uid": ["u1", "u2", "u1", "u1", None],
                "ts": pa.array([at(0), at(0), at(2), at(2), at(3)], UTC),
                "made": pa.array([at(0), at(0), at(2), at(2), at(3)], UTC),
                "n": pa.array([1, 2, BIG, BIG + 2, 9], pa.int64()),
                "gap": pa.array([BIG, None, BIG, BIG, None], pa.int64()),
                "unused": ["x", "y", "z", "z", "z"],
            }
        ),
        tmp_path / "rows.parquet",
    )
    return open_store()


def source(*, event="ts", mapping=None):
    return FileSource(
        name="rows",
        path="rows.parquet",
        timestamp_field=event,
        created_timestamp_column="made",
        field_mapping={"uid": "user_id"} if mapping is None else mapping,
    )


def doubled(frame):
    return frame.assign(double=frame["n"] * 2, initial=frame["unused"].str.upper())


def view(*, mode="pandas", function=doubled, given=None, offline=False, **more):
    return BatchFeatureView(
        name="v",
        mode=mode,
        entities=[USER],
        ttl=timedelta(days=1),
        source=given or source(),
        udf=function,
        udf_string="",
        online=True,
        offline=offline,
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="double", dtype=Int64),
            Field(name="initial", dtype=String),
        ],
        **more,
    )


def read(store, *features):
    found = store.get_online_features(
        features=list(features), entity_rows=[{"user_id": user} for user in ("u1", "u2", "u3")]
    ).to_dict()
    return [found[feature.partition(":")[2]] for feature in features]


@pytest.mark.parametrize("mode", ["pandas", "python"])
@pytest.mark.parametrize(
    ("event", "mapping"),
    [
        ("ts", {"uid": "user_id"}),
        ("event_timestamp", {"uid": "user_id", "ts": "event_timestamp", "made": "created_timestamp"}),
        ("ts", {"uid": "user_id", "ts": "event_timestamp", "made": "created_timestamp"}),
    ],
)
def test_a_function_sees_every_column_and_what_it_returns_is_filled(store, mode, event, mapping):
    store.apply([USER, view(mode=mode, given=source(event=event, mapping=mapping))])
    joined = store.get_historical_features(
        entity_df=spine([("u1", at(3)), ("u2", at(3)), ("u3", at(3)), ("u1", at(1))]),
        features=["v:double", "v:initial"],
    )
    assert joined.to_arrow()["double"].to_pylist() == [2 * (BIG + 2), 4, None, 2]
    assert joined.to_arrow()["initial"].to_pylist() == ["Z", "Y", None, "X"]
    store.materialize(at(-1), at(9))
    assert read(store, "v:double", "v:initial") == [[2 * (BIG + 2), 4, None], ["Z", "Y", None]]


def test_a_feature_that_the_source_holds_under_the_same_name_is_the_computed_one_in_join_and_fill(store):
    twice = BatchFeatureView(
        name="twice",
        mode="pandas",
        entities=[USER],
        source=source(),
        online=True,
        schema=[Field(name="user_id", dtype=String), Field(name="n", dtype=Int64)],
        udf=lambda frame: frame[frame["n"] != 2].assign(n=frame["n"] * 2),
        udf_string="",
    )
    store.apply([USER, twice])
    users = spine([(user, at(3)) for user in ("u1", "u2", "u3")])
    joined = store.get_historical_features(entity_df=users, features=["twice:n"]).to_arrow()["n"].to_pylist()
    store.materialize(at(-1), at(9))
    assert [joined] == read(store, "twice:n") == [[2 * (BIG + 2), None, None]]


def test_a_function_that_sums_rows_up_is_refused_in_a_join(store):
    def summed(frame):
        return frame.groupby("user_id", as_index=False).agg(
            double=("n", "count"),
            initial=("unused", "first"),
            ts=("ts", lambda times: times.max() + (at(1) - at(0))),
            made=("made", "max"),
        )

    store.apply([USER, view(function=summed)])
    job = store.get_historical_features(entity_df=spine([("u1", at(9))]), features=["v:double"])
    with pytest.raises(
        InvalidInput, match="view 'v' cannot be joined to history: its function returns rows whose keys"
    ):
        job.to_arrow()


def test_a_view_over_a_source_is_not_written_back_into_it(store, tmp_path):
    before = (tmp_path / "rows.parquet").read_bytes()
    store.apply([USER, view(offline=True)])
    store.materialize(at(-1), at(9))
    assert read(store, "v:double") == [[2 * (BIG + 2), 4, None]]
    assert (tmp_path / "rows.parquet").read_bytes() == before


def test_whole_numbers_beyond_a_floats_stay_exact_beside_a_null(store):
    def passed_on(frame):
        return frame.assign(double=frame["gap"], initial=frame["unused"])

    store.apply([USER, view(function=passed_on)])
    store.materialize(at(-1), at(9))
    assert read(store, "v:double") == [[BIG, None, None]]


def test_a_function_that_forgets_a_feature_is_named_with_what_it_returned(store):
    store.apply([USER, view(function=lambda frame: frame)])
    with pytest.raises(InvalidInput, match="view 'v': what its function returns has no column 'double', 'initial'"):
        store.materialize(at(-1), at(9))


def test_aggregates_carry_their_entitys_newest_time(store):
    sums = StreamFeatureView(
        name="sums",
        entities=[USER],
        source=PushSource(name="push", batch_source=source()),
        online=True,
        timestamp_field="ts",
        aggregations=[Aggregation(column="n", function="count"), Aggregation(column="n", function="min", name="least")],
        schema=[
            Field(name="user_id", dtype=String),
            Field(name="count_n", dtype=Int64),
            Field(name="least", dtype=Int64),
        ],
    )
    store.apply([USER, sums])
    store.materialize(at(-1), at(9))
    assert read(store, "sums:count_n", "sums:least") == [[3, 1, None], [1, 2, None]]


def test_a_view_of_two_views_keeps_them_apart_and_is_kept_in_its_own_source(store, tmp_path):
    fields = [Field(name="user_id", dtype=String), Field(name="n", dtype=Int64)]
    plain = FeatureView(name="plain", entities=[USER], source=source(), online=True, schema=fields)
    twice = BatchFeatureView(
        name="twice",
        mode="pandas",
        entities=[USER],
        source=source(),
        online=True,
        schema=fields,
        udf=lambda frame: frame.assign(n=frame["n"] * 2),
        udf_string="",
    )

    def difference(one, two):
        both = one.merge(two[["user_id", "n"]], on="user_id", suffixes=("", "_twice"))
        return both.assign(more=(both["n_twice"] - both["n"]) / 2, event_timestamp=both["ts"])

    (tmp_path / "sink").mkdir()
    kept = pa.schema([("user_id", pa.string()), ("more", pa.float64()), ("event_timestamp", UTC)])
    pq.write_table(kept.empty_table(), tmp_path / "sink" / "first.parquet")
    both = BatchFeatureView(
        name="both",
        mode="pandas",
        entities=[USER],
        source=[plain, twice],
        sink_source=FileSource(name="sink", path="sink", timestamp_field="event_timestamp"),
        online=True,
        offline=True,
        schema=[Field(name="user_id", dtype=String), Field(name="more", dtype=Float64)],
        udf=difference,
        udf_string="",
    )
    store.apply([USER, plain, twice, both])
    store.materialize(at(-1), at(9), feature_views=["both"])
    assert read(store, "both:more") == [[(BIG + 2) / 2, 1.0, None]]
    assert sorted(pq.read_table(tmp_path / "sink")["user_id"].to_pylist()) == ["u1", "u2"]
