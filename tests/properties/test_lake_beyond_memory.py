"""Work on a lake larger than memory gives what the same work in memory gives, row by row."""

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.compact import compact, tables
from ingestion.daily import daily
from privacy.erasure.lake import LakeErasure
from privacy.erasure.rows import mentioned, mentions
from stillpoint.events.types import CATALOGUE_COLUMNS, USER_COLUMNS
from stillpoint.features.daily import daily_tables, days_between, reach_of
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import ALL_DATES, DateRange, by_date, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.sorted_rows import SortedRows, last_of_each, ranges_together
from stillpoint.lake.tables import Lake
from tests.support.wellness import APP, EVENT_COLUMNS, FEATURES

D = datetime(2026, 3, 5, tzinfo=UTC)
AT = D + timedelta(hours=1)
TINY = 2_000
"""A budget of bytes that a few rows exceed."""


class OneDirection:
    sha256 = "0" * 64

    def encode(self, texts):
        rows = np.zeros((len(texts), 256), dtype=np.float32)
        rows[:, 0] = 1.0
        return rows


KEYS = st.text(alphabet="aäz\U0001f600", max_size=2)


@settings(max_examples=40)
@given(st.lists(st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=40), max_size=6), st.integers(1, 600))
def test_rows_sorted_on_disk_equal_a_stable_sort_in_memory(tables, budget):
    schema = pa.schema([("k", pa.string()), ("n", pa.int64()), ("at", pa.int64())])
    rows = [{"k": k, "n": n, "at": place} for place, (k, n) in enumerate(row for table in tables for row in table)]
    by_key = sorted(rows, key=lambda row: (row["k"], row["n"]))
    last = {row["k"]: row for row in by_key}
    with (
        SortedRows(schema, ["k"], order=["n"], budget=budget) as everything,
        SortedRows(schema, ["k"], order=["n"], reduce=last_of_each(["k"]), budget=budget) as one_each,
    ):
        done = 0
        for table in tables:
            part = pa.Table.from_pylist(rows[done : done + len(table)], schema=schema)
            everything.add(part)
            one_each.add(part)
            done += len(table)
        pairs = list(ranges_together(everything, one_each))
    assert [row for table, _ in pairs for row in table.to_pylist()] == by_key
    assert [row for _, table in pairs for row in table.to_pylist()] == list(last.values())
    for many, few in pairs:
        assert set(many["k"].to_pylist()) == set(few["k"].to_pylist()), "a key's rows are in one range of each"


USERS = st.sampled_from([f"u{n}" for n in range(9)])
CONTENTS = st.sampled_from(["c1", "c2", "c3"])


@st.composite
def events(draw):
    """Events of some days, some of them stored twice or thrice, as replays and backfills do."""
    rows = []
    for number in range(draw(st.integers(0, 60))):
        start = draw(st.booleans())
        happened = D - timedelta(minutes=draw(st.integers(-60, 40 * 24 * 60)))
        rows.append(
            {
                **dict.fromkeys(EVENT_COLUMNS.names),
                "event_id": f"e{number:03d}",
                "user_id": draw(USERS),
                "type": "content_start" if start else draw(st.sampled_from(["content_complete", "login"])),
                "event_timestamp": happened,
                "arrived_at": happened + timedelta(minutes=draw(st.integers(0, 120))),
                "platform": "ios",
                "play_id": draw(st.sampled_from(["p1", "p2"])),
                "content_id": draw(CONTENTS),
                "category": draw(st.sampled_from(["sleep", "music"])),
                "verdict": draw(st.sampled_from(["on_time", "on_time", "on_time", "late"])),
                "shard": draw(st.sampled_from(["s1", "s2"])),
                "sequence": f"{draw(st.integers(0, 999)):04d}",
            }
        )
    copies = draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=10)) if rows else []
    return [*rows, *(rows[number] for number in copies)]


@st.composite
def users(draw):
    return [
        {
            "user_id": user,
            "signed_up_at": D - timedelta(days=draw(st.integers(0, 800))),
            "gender": draw(st.sampled_from([None, "f"])),
            "locale": "en",
            "subscribed": draw(st.booleans()),
            "push_opt_in": draw(st.booleans()),
            "updated_at": D - timedelta(hours=draw(st.integers(-5, 100))),
        }
        for user in draw(st.lists(USERS, max_size=30))
    ]


def kept(lake, dataset, rows, schema, parts, column):
    """Commit rows in several files of their days."""
    table = pa.Table.from_pylist(rows, schema=schema)
    step = max(1, -(-table.num_rows // parts))
    for number, start in enumerate(range(0, table.num_rows, step)):
        files = tuple(
            lake.write(dataset, day, f"w-{number}", part) for day, part in by_date(table.slice(start, step), column)
        )
        lake.commit(Commit(writer=f"{dataset}", sequence=number, at=D + timedelta(seconds=number), files=files))


@settings(max_examples=12)
@given(events(), st.integers(1, 4))
def test_a_compacted_day_equals_the_day_merged_in_memory(rows, parts):
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(LocalObjects(folder), FEATURES, EVENT_COLUMNS)
        kept(lake, "events", rows, EVENT_COLUMNS, parts, "event_timestamp")
        expected = []
        for day in sorted({file.date for file in lake.files("events")}):
            stored = lake.open("events", lake.files_as_stored("events", DateRange(day, day))).to_table()
            frame = pl.DataFrame(pl.from_arrow(stored)).unique(["shard", "sequence"], keep="last", maintain_order=True)
            expected += frame.sort("shard", "sequence").to_arrow().cast(EVENT_COLUMNS).to_pylist()
        compact(lake, before=D.date() + timedelta(days=2), at=AT, budget=TINY)
        files = sorted(Path(folder).glob("tables/events/*/rows.parquet"))
        found = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        assert found == expected
        if rows:
            assert tables(lake, "events").count_rows() == len(expected) == lake.read("events").num_rows


@settings(max_examples=8)
@given(events(), users(), st.integers(1, 3), st.sampled_from([0, 2, 33]))
def test_daily_views_of_users_taken_in_parts_equal_those_of_all_at_once(rows, people, parts, days):
    contents = [
        {**dict.fromkeys(CATALOGUE_COLUMNS.names), "content_id": name, "title": name, "description": "", "category": "sleep",
         "duration_seconds": 60, "published_at": D, "updated_at": D - timedelta(days=day)}
        for name, day in (("c1", 3), ("c1", 1), ("c2", 50))
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(LocalObjects(folder), FEATURES, EVENT_COLUMNS)
        kept(lake, "events", rows, EVENT_COLUMNS, parts, "event_timestamp")
        kept(lake, "users", people, USER_COLUMNS, parts, "updated_at")
        kept(lake, "catalogue", contents, CATALOGUE_COLUMNS, 1, "updated_at")
        first, last = D.date() - timedelta(days=days), D.date()
        before = DateRange(first - reach_of(APP.daily_views), last)
        expected = daily_tables(
            days_between(first, last),
            APP.daily_views,
            events=lake.read("events", before),
            tables={name: lake.read(name) for name in ("users", "catalogue")},
            encoder=OneDirection(),
        )
        by_file = {(day, feature_dataset(view)): table for day, view, table in expected}
        counts = daily(lake, first, last, at=AT, app=APP, encoder=OneDirection(), writers={}, budget=TINY)
        assert sum(counts.values()) == sum(table.num_rows for table in by_file.values())
        for (day, dataset), table in by_file.items():
            assert lake.read(dataset, DateRange(day, day)).to_pylist() == table.to_pylist(), (day, dataset)


@settings(max_examples=8)
@given(events(), st.sets(USERS, max_size=4), st.integers(1, 4), st.booleans())
def test_users_erased_in_one_pass_leave_the_rows_that_single_erasures_leave(rows, gone, parts, compacted):
    found = []
    for groups in ([frozenset(gone)], [frozenset({user}) for user in sorted(gone)]):
        with tempfile.TemporaryDirectory() as folder:
            lake = Lake(LocalObjects(folder), FEATURES, EVENT_COLUMNS)
            kept(lake, "events", rows, EVENT_COLUMNS, parts, "event_timestamp")
            if compacted:
                compact(lake, before=D.date(), at=AT)
            before = lake.read("events").to_pylist()
            removed = Counter()
            for number, group in enumerate(groups):
                own = LakeErasure(lake, group, f"run{number}")
                own.supersede(at=AT)
                own.purge()
                removed.update({user: own.traces[user].removed["events"] for user in group})
            left = [row for row in before if row["user_id"] not in gone]
            key = lambda row: str(sorted(row.items(), key=str))  # noqa: E731
            assert sorted(
                map(key, Lake(lake.objects, FEATURES, EVENT_COLUMNS).read("events", ALL_DATES).to_pylist())
            ) == sorted(map(key, left))
            assert removed == Counter(row["user_id"] for row in before if row["user_id"] in gone)
            every = [pq.ParquetFile(path).read()["user_id"].to_pylist() for path in Path(folder).rglob("*.parquet")]
            assert not gone & {user for column in every for user in column}
            found.append(sorted(map(key, left)))
    assert all(one == found[0] for one in found)


@given(st.text(alphabet='u12.@- :"é', max_size=30), st.sets(st.sampled_from(["u1", "u2", "u12", "u-1", "1"])))
def test_words_of_many_users_are_those_that_are_found_one_at_a_time(text, ids):
    data = text.encode()
    assert mentioned(data, ids) == {user for user in ids if mentions(user).search(data)}
