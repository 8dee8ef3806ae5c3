"""A join over Parquet files equals reading every row, whatever the keys, chunks, partitions and cutoff."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource
from feast.types import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from stillpoint.clock import to_micros
from stillpoint.stores.history.join import JoinLimits, join_history
from stillpoint.stores.history.latest import Pull, latest_rows
from stillpoint.stores.history.sources import S3Access, open_path
from stillpoint.stores.history.spine import read_spine
from stillpoint.stores.history.views import JoinKey, RequestedFeature, ViewRequest

T0 = datetime(2026, 3, 1, tzinfo=UTC)
UTC_MICROS = pa.timestamp("us", tz="UTC")
KEY = st.one_of(st.none(), st.sampled_from(["1", "11", "111", "1,1"]))
ROW = st.tuples(
    KEY, KEY, st.integers(0, 6), st.one_of(st.none(), st.integers(0, 9)), st.one_of(st.none(), st.integers())
)
ROWS = st.lists(ROW.map(lambda row: (*row[:4], None if row[4] is None else row[4] % 1000)), min_size=1, max_size=12)
LABELS = st.lists(st.tuples(KEY, KEY, st.integers(-1, 12)), min_size=1, max_size=8)


def moments(hours):
    return pa.array([None if hour is None else T0 + timedelta(hours=hour) for hour in hours], UTC_MICROS)


def view(name, keys, path, ttl):
    return ViewRequest(
        view=name,
        source=FileSource(path=str(path), timestamp_field="event"),
        keys=tuple(JoinKey(spine=f"label_{key}", source=key) for key in keys),
        event="event",
        created="created",
        features=(RequestedFeature(feature="value", source="value", output=f"{name}__value", dtype=Int64),),
        ttl=None if ttl is None else ttl * 3_600_000_000,
        event_output=f"{name}__event_timestamp",
    )


def plain_answer(rows, label, keys, ttl, cutoff):
    """Return (event hour, value) of the row that answers a label, by looking at all of them."""
    asked = [label["ab".index(key)] for key in keys]
    if None in asked:
        return None, None
    time, best = label[2], None
    for position, row in enumerate(rows):
        if [row["ab".index(key)] for key in keys] != asked or row[2] > time:
            continue
        if cutoff and (row[3] is None or row[3] > time):
            continue
        order = (row[2], -1 if row[3] is None else row[3], position)
        if best is None or order > best[0]:
            best = (order, row)
    if best is None or (ttl is not None and time - best[1][2] > ttl):
        return None, None
    return T0 + timedelta(hours=best[1][2]), best[1][4]


def write(folder, rows):
    """Write the rows as two files, so that chunks meet a border."""
    for number, part in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
        columns = {
            "a": pa.array([row[0] for row in part], pa.string()),
            "b": pa.array([row[1] for row in part], pa.string()),
            "event": moments([row[2] for row in part]),
            "created": moments([row[3] for row in part]),
            "value": pa.array([row[4] for row in part], pa.int64()),
        }
        pq.write_table(pa.table(columns), folder / f"{number}.parquet")


@pytest.mark.parametrize("cutoff", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    rows=ROWS,
    labels=LABELS,
    ttl=st.one_of(st.none(), st.integers(1, 4)),
    chunk=st.integers(1, 20),
    held=st.integers(1, 20),
)
def test_a_join_equals_looking_at_every_row(cutoff, rows, labels, ttl, chunk, held):
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), rows)
        views = [view("both", "ab", name, ttl), view("one", "b", name, None)]
        spine = read_spine(
            pa.table(
                {
                    "label_a": pa.array([label[0] for label in labels], pa.string()),
                    "label_b": pa.array([label[1] for label in labels], pa.string()),
                    "event_timestamp": moments([label[2] for label in labels]),
                }
            )
        )
        joined = join_history(
            spine,
            views,
            lambda asked, first, last: open_path(name, asked.view, S3Access()),
            cutoff=cutoff,
            limits=JoinLimits(chunk_rows=chunk, key_rows=held),
        )
    for viewed, keys, limit in (("both", "ab", ttl), ("one", "b", None)):
        found = list(
            zip(joined[f"{viewed}__event_timestamp"].to_pylist(), joined[f"{viewed}__value"].to_pylist(), strict=True)
        )
        assert found == [plain_answer(rows, label, keys, limit, cutoff) for label in labels]


@settings(max_examples=100, deadline=None)
@given(
    rows=ROWS,
    keys=st.sampled_from(["ab", "b", ""]),
    ends=st.tuples(*[st.one_of(st.none(), st.integers(0, 6))] * 2),
    chunk=st.integers(1, 20),
    held=st.integers(1, 20),
)
def test_a_fill_takes_the_row_that_a_label_after_everything_would_join(rows, keys, ends, chunk, held):
    first, last = (None if end is None else to_micros(T0 + timedelta(hours=end)) for end in ends)
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), rows)
        pull = Pull(keys=tuple(keys), features=("value",), event="event", created="created", first=first, last=last)
        source = open_path(name, "source", S3Access())
        tables = list(latest_rows(source, pull, chunk_rows=chunk, entities_at_once=held))
    within = [row for row in rows if (ends[0] is None or row[2] >= ends[0]) and (ends[1] is None or row[2] <= ends[1])]
    entities = {row[:2] for row in within if None not in [row["ab".index(key)] for key in keys]}
    expected = {
        tuple(pair["ab".index(key)] for key in keys): plain_answer(within, (*pair, 99), keys, None, False)[1]
        for pair in entities
    }
    found = {tuple(row[key] for key in keys): row["value"] for table in tables for row in table.to_pylist()}
    assert found == expected
    assert sum(table.num_rows for table in tables) == len(expected)
