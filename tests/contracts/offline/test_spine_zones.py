"""One rule holds for times without a zone in every kind of spine, and each refusal's example works."""

import json
import re
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from feast import FeatureStore
from feast.cli.cli import cli
from feast.cli.features import get_historical_features

from stillpoint.errors import InvalidSpine
from tests.support.plays import ROWS, USER, at, plays_view, source_table, values

NOON = datetime(2026, 3, 1, 12)
DAY = date(2026, 3, 2)
USERS = ["u1", "u2"]


def pandas_frame(times):
    return pd.DataFrame({"user_id": USERS, "event_timestamp": times})


PANDAS = {
    "times": pandas_frame(pd.Series([NOON, NOON], dtype="datetime64[us]")),
    "nanoseconds": pandas_frame(pd.Series([NOON, NOON], dtype="datetime64[ns]")),
    "objects": pandas_frame(pd.Series([NOON, NOON], dtype=object)),
    "objects of which one has a zone": pandas_frame(
        pd.Series([NOON.replace(tzinfo=timezone(timedelta(hours=5, minutes=30))), NOON], dtype=object)
    ),
    "dates": pandas_frame(pd.Series([DAY, DAY], dtype=object)),
}
ARROW = {
    unit: pa.table({"user_id": USERS, "event_timestamp": pa.array([NOON, NOON], pa.timestamp(unit))})
    for unit in ("s", "ms", "us", "ns")
} | {"dates": pa.table({"user_id": USERS, "event_timestamp": pa.array([DAY, DAY], pa.date32())})}
POLARS = {name: pl.from_arrow(table) for name, table in ARROW.items() if name != "s"}
SQL = {
    "the source's own column": "SELECT user_id, max(event_timestamp) AS event_timestamp FROM plays_view GROUP BY user_id",
    "a literal": "SELECT DISTINCT user_id, TIMESTAMP '2026-03-01 12:00:00' AS event_timestamp FROM plays_view",
    "a date": "SELECT DISTINCT user_id, DATE '2026-03-02' AS event_timestamp FROM plays_view",
}
TEXT = {
    "pandas": pandas_frame(["2026-03-01T12:00:00", "2026-03-01 12:00"]),
    "a day": pandas_frame(["2026-03-02", "2026-03-02"]),
    "arrow": pa.table({"user_id": USERS, "event_timestamp": ["2026-03-01T12:00:00", "2026-03-01T12:00:00Z"]}),
    "polars": pl.DataFrame({"user_id": USERS, "event_timestamp": ["2026-03-01T12:00:00"] * 2}),
    "sql": "SELECT DISTINCT user_id, '2026-03-01T12:00:00' AS event_timestamp FROM plays_view",
}
KINDS = {"pandas": PANDAS, "arrow": ARROW, "polars": POLARS, "sql": SQL}
CASES = [
    pytest.param(kind, given, id=f"{kind}: {name}") for kind, all_ in KINDS.items() for name, given in all_.items()
]


@pytest.fixture
def opened(tmp_path, open_store):
    """Open a store whose source holds times without a zone, with `coerce_tz_aware` as given."""
    pq.write_table(source_table(ROWS, zone=None), tmp_path / "plays.parquet")
    open_store().apply([USER, plays_view(tmp_path / "plays.parquet", ttl=timedelta(days=9))])
    return lambda *, coerced: open_store(coerce_tz_aware=coerced)


def joined(store, given):
    job = store.get_historical_features(entity_df=given, features=["plays_view:plays"])
    return dict(zip(job.to_arrow()["user_id"].to_pylist(), values(job), strict=True))


@pytest.mark.parametrize(("kind", "given"), CASES + [pytest.param("text", g, id=f"text: {n}") for n, g in TEXT.items()])
def test_a_time_without_a_zone_is_utc_in_every_kind_of_spine(opened, kind, given):
    assert joined(opened(coerced=True), given) == {"u1": 12, "u2": 20}


@pytest.mark.parametrize(("kind", "given"), CASES)
def test_where_it_is_refused_the_example_of_the_refusal_makes_the_spine_fit(opened, kind, given):
    store = opened(coerced=False)
    with pytest.raises(InvalidSpine, match="the spine's 'event_timestamp' has no time zone") as refusal:
        joined(store, given)
    example = re.search(r"for example (.*), or set coerce_tz_aware: true", str(refusal.value)).group(1)
    if kind == "sql":
        given = f"SELECT user_id, {example} FROM ({given}) AS spine"
    else:
        name = example.partition(" = ")[0].partition("[")[0]
        scope = {name: given.copy() if kind == "pandas" else given, "pd": pd, "pl": pl, "pyarrow": pyarrow}
        exec(example, scope)
        given = scope[name]
    assert joined(store, given) == {"u1": 12, "u2": 20}


@pytest.mark.parametrize("given", [pytest.param(given, id=name) for name, given in TEXT.items()])
def test_text_without_a_zone_is_refused_with_the_row_and_how_to_write_it(opened, given):
    with pytest.raises(InvalidSpine, match=r"row \d is '2026-03-0.*write it into the text, for example '2026-03-01T12"):
        joined(opened(coerced=False), given)


@pytest.mark.parametrize("coerced", [True, False])
def test_a_zone_that_is_there_counts_whatever_the_setting(opened, coerced):
    store, late = opened(coerced=coerced), timezone(timedelta(hours=-9))
    three_oclock = "CAST('2026-03-01T03:30:00+03:00' AS TIMESTAMP WITH TIME ZONE)"
    before = [at(0.5).astimezone(late), at(0.5).astimezone(timezone(timedelta(hours=5, minutes=30)))]
    for given in (
        pandas_frame(pd.Series(before, dtype=object)),
        pandas_frame([moment.isoformat() for moment in before]),
        pandas_frame(["2026-03-01 00:30:00Z", "2026-02-28T14:30:00-10"]),
        pa.table({"user_id": USERS, "event_timestamp": pa.array([at(0.5)] * 2, pa.timestamp("ms", "-07:30"))}),
        pl.DataFrame({"user_id": USERS, "event_timestamp": [at(0.5)] * 2}).with_columns(
            pl.col("event_timestamp").dt.convert_time_zone("Asia/Kolkata")
        ),
        f"SELECT DISTINCT user_id, {three_oclock} AS event_timestamp FROM plays_view",
    ):
        assert joined(store, given) == {"u1": 10, "u2": 20}


@pytest.mark.parametrize(
    "literal",
    [
        "TIMESTAMP '2026-03-01 05:30:00+05:00'",
        "cast('2026-03-01T05:30:00+0500' as timestamp)",
        "timestamp '2026-03-01 05-11'",
    ],
)
def test_sql_that_would_drop_an_offset_is_refused(opened, literal):
    sql = f"SELECT DISTINCT user_id, {literal} AS event_timestamp FROM plays_view"
    for coerced in (True, False):
        with pytest.raises(
            InvalidSpine, match=r"drops its offset; write CAST\('2026-03-01.* AS TIMESTAMP WITH TIME ZONE\)"
        ):
            joined(opened(coerced=coerced), sql)


@pytest.mark.parametrize("coerced", ["", "coerce_tz_aware: false\n"])
def test_the_example_of_feasts_own_help_is_answered(tmp_path, coerced):
    """The example is taken from the help itself, with the names of our view."""
    told = next(option.help for option in get_historical_features.params if option.name == "dataframe")
    example = re.search(r"Example: '(.*)'", told).group(1)
    spine = example.replace('"driver_id": 1001', '"user_id": "u1"')
    assert json.loads(spine)[0]["event_timestamp"] == "2025-03-29T12:00:00"
    then = datetime(2025, 3, 29, 11, tzinfo=UTC)
    pq.write_table(source_table([("u1", then, then, 7)]), tmp_path / "plays.parquet")
    (tmp_path / "feature_store.yaml").write_text(
        "project: typed\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
        "online_store: {type: sqlite, path: online.db}\n"
        f"offline_store: {{type: stillpoint.stores.offline.StillpointOfflineStore}}\n{coerced}"
    )
    FeatureStore(repo_path=str(tmp_path)).apply([USER, plays_view("plays.parquet")])
    arguments = ["-c", str(tmp_path), "get-historical-features", "-d", spine, "-f", "plays_view:plays"]
    found = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert json.loads(found.stdout[found.stdout.index("[") :])[0]["plays"] == 7
