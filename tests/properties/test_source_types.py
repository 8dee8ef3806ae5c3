"""Values of files of any types, units, zones and orders are joined, filled and pushed alike: kept exactly, or refused."""

import math
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FileSource
from feast.types import Array, Bool, Float32, Float64, Int32, Int64, UnixTimestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.join import JoinLimits, join_history
from stillpoint.stores.history.latest import Pull, latest_rows
from stillpoint.stores.history.sources import S3Access, open_path
from stillpoint.stores.history.spine import read_spine
from stillpoint.stores.history.types import refuse_null_items, request_types
from stillpoint.stores.history.views import JoinKey, RequestedFeature, ViewRequest
from stillpoint.stores.history.write import PushedRows, append_to_path

T0 = datetime(2026, 3, 1, tzinfo=UTC)
US, INT64 = pa.timestamp("us", "UTC"), pa.int64()
WHOLE = {
    pa.int8(): 7, pa.int16(): 15, pa.int32(): 31, pa.int64(): 63, pa.uint8(): 8, pa.uint16(): 16, pa.uint32(): 32, pa.uint64(): 64
}  # fmt: skip
BORDERS = [0, 1, 2, 127, 128, 200, 255, 256, 65_535, 2**24 + 1, 2**31, 3_000_000_000, 5_000_000_000, 2**53, 2**53 + 1]
WHOLES = st.one_of(st.sampled_from(BORDERS), st.integers(0, 2**64 - 1)).flatmap(
    lambda value: st.sampled_from([value, -value])
)
FRACTIONS = st.one_of(
    st.sampled_from([0.1, 1.75, 2.5, 1e6, 65_504.0, 1e39, 1e300, 2.0**53, -0.5, math.nan]), st.floats(width=32)
)
DECIMALS = st.decimals(-(10**6), 10**6, places=3)


def narrowed(value, width):
    with np.errstate(over="ignore"):
        return float(width(value))


NARROW = [pa.int8(), pa.uint8(), pa.int32(), pa.float16(), pa.float32(), pa.decimal128(12, 3), pa.null()]
WIDE = [pa.int64(), pa.float64()]


@st.composite
def stored(draw, kinds=None):
    """Draw a type of numbers and values that files of it can hold."""
    kind = draw(
        st.sampled_from(kinds or [*WHOLE, pa.float16(), pa.float32(), pa.float64(), pa.decimal128(12, 3), pa.null()])
    )
    if kind in WHOLE:
        low = 0 if pa.types.is_unsigned_integer(kind) else -(2 ** WHOLE[kind])
        values = WHOLES.filter(lambda value: low <= value < 2 ** WHOLE[kind])
    elif pa.types.is_floating(kind):
        width = kind.to_pandas_dtype()
        values = FRACTIONS.map(lambda value: narrowed(value, width)) if kind != pa.float64() else FRACTIONS
    else:
        values = DECIMALS if pa.types.is_decimal(kind) else st.none()
    return kind, draw(st.lists(st.one_of(st.none(), values), max_size=3))


def expected(value, dtype):
    """Return what a declared type makes of a value, by plain Python; raises ValueError where it cannot hold it."""
    if value is None or (isinstance(value, float) and math.isnan(value) and dtype not in (Float32, Float64)):
        return None
    if dtype in (Int32, Int64):
        bits = 31 if dtype == Int32 else 63
        if not math.isfinite(value) or value != int(value) or not -(2**bits) <= value < 2**bits:
            raise ValueError(value)
        return int(value)
    if dtype == Bool:
        if value not in (0, 1):
            raise ValueError(value)
        return value == 1
    if isinstance(value, Decimal):
        return float(value) if dtype == Float64 else float(np.float32(float(value)))
    if dtype == Float64:
        if isinstance(value, int) and int(float(value)) != value:
            raise ValueError(value)
        return float(value)
    with np.errstate(over="ignore"):
        number = float(np.float32(value))
    if (isinstance(value, int) and (math.isinf(number) or int(number) != value)) or (
        math.isinf(number) != math.isinf(value)
    ):
        raise ValueError(value)
    return number


def expected_or_none(value, dtype):
    return None if does_not_fit(value, dtype) else expected(value, dtype)


def does_not_fit(value, dtype):
    try:
        expected(value, dtype)
    except ValueError:
        return True
    return False


def pushed_or_refused(path, pushed, columns, dtype):
    """Push rows; return what a refusal says."""
    try:
        refuse_null_items(pushed.table["value"].combine_chunks(), dtype, "view 'stats', column 'value'")
        append_to_path(str(path), pushed, S3Access(), columns, at=T0)
    except InvalidInput as refusal:
        return str(refusal)
    return None


def same(one, other):
    """A scalar NaN is null, on every path (docs/why-not-stock-feast.md)."""
    one, other = (None if isinstance(value, float) and value != value else value for value in (one, other))
    return one == other or (one is not None and other is not None and one != one and other != other)


def request(path, dtype, keys=("key",)):
    return ViewRequest(
        view="stats",
        source=FileSource(path=str(path), timestamp_field="event"),
        keys=tuple(JoinKey(spine=key, source=key, dtype=Int64) for key in keys),
        event="event",
        created=None,
        features=(RequestedFeature(feature="value", source="value", output="value", dtype=dtype),),
        ttl=None,
    )


def joined(path, view, keys, chunk=2):
    spine = pa.table(
        {
            "key": pa.array(keys, pa.int64()),
            "event_timestamp": pa.array([T0 + timedelta(days=9)] * len(keys), pa.timestamp("us", "UTC")),
        }
    )
    table = join_history(
        read_spine(spine),
        [view],
        lambda asked, first, last: open_path(str(path), "stats", S3Access()),
        cutoff=False,
        limits=JoinLimits(chunk_rows=chunk),
    )
    return dict(zip(keys, table["value"].to_pylist(), strict=True))


def filled(path, view, chunk=2):
    pull = Pull(
        keys=("key",),
        features=("value",),
        event="event",
        created=None,
        first=None,
        last=None,
        view=view.view,
        types=request_types(view),
    )
    source = open_path(str(path), "stats", S3Access())
    rows = [
        row for table in latest_rows(source, pull, chunk_rows=chunk, entities_at_once=3) for row in table.to_pylist()
    ]
    assert len({row["key"] for row in rows}) == len(rows)
    return {row["key"]: row["value"] for row in rows}


def write(folder, number, kind, values, first_key, *, event=US, key=INT64):
    table = pa.table(
        {
            "key": pa.array(range(first_key, first_key + len(values)), pa.int64()).cast(key),
            "event": pa.array([T0] * len(values), pa.timestamp("us", "UTC")).cast(event),
            "value": pa.array(values, kind),
        }
    )
    pq.write_table(table, folder / f"{number}.parquet")


DTYPES = st.sampled_from([Int32, Int64, Float32, Float64, Bool])
ZONES = [
    pa.timestamp(unit, zone)
    for unit in ("s", "ms", "us", "ns")
    for zone in (None, "UTC", "+05:30", "-02:30", "Europe/Oslo", "Z")
]


@settings(max_examples=120, deadline=None)
@given(
    files=st.lists(
        st.tuples(
            stored(),
            st.sampled_from(ZONES),
            st.sampled_from([pa.int64(), pa.int16(), pa.float64(), pa.decimal128(24, 2)]),
        ),
        min_size=1,
        max_size=4,
    ),
    dtype=DTYPES,
    chunk=st.integers(1, 9),
)
def test_files_of_any_types_in_any_order_are_joined_and_filled_alike(files, dtype, chunk):
    with tempfile.TemporaryDirectory() as name:
        folder, wanted = Path(name), {}
        for number, ((kind, values), event, key) in enumerate(files):
            write(folder, number, kind, values, len(wanted), event=event, key=key)
            wanted |= {len(wanted) + place: value for place, value in enumerate(values)}
        view, good, bad = request(name, dtype), {}, {}
        for key, value in wanted.items():
            try:
                good[key] = expected(value, dtype)
            except ValueError:
                bad[key] = value
        found = joined(name, view, list(good), chunk)
        assert all(same(found[key], good[key]) for key in good), (found, good)
        for key in bad:
            with pytest.raises(
                InvalidInput, match=r"view 'stats', column 'value', file .*parquet, row \d+: .* cannot be kept"
            ):
                joined(name, view, [key], chunk)
        if bad:
            with pytest.raises(
                InvalidInput, match=r"view 'stats', column 'value', file .*parquet, row \d+: .* cannot be kept"
            ):
                filled(name, view, chunk)
        else:
            assert filled(name, view, chunk).keys() == good.keys()
            assert all(same(value, good[key]) for key, value in filled(name, view, chunk).items())


@settings(max_examples=120, deadline=None)
@given(before=stored(NARROW), rows=stored(WIDE), dtype=DTYPES, single=st.booleans(), inside=st.booleans())
def test_a_push_is_joined_as_what_was_pushed_or_refused_whole(before, rows, dtype, single, inside):
    column, pushed = pa.list_(before[0]) if inside else before[0], pa.list_(rows[0]) if inside else rows[0]
    nested = [[value] for value in rows[1]] if inside else rows[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, 0, column, [], 0)
        path = folder / "0.parquet" if single else folder
        view = request(path, Array(dtype) if inside else dtype)
        table = pa.table(
            {
                "key": pa.array(range(len(nested)), pa.int64()),
                "event": pa.array([T0] * len(nested), pa.timestamp("us", "+05:30")),
                "value": pa.array(nested, pushed),
            }
        )
        source = open_path(str(path), "stats", S3Access())
        types = request_types(view)
        columns = source.columns_to_write(types)
        refusal = pushed_or_refused(
            path, PushedRows(view="stats", table=table, types=types), columns, view.features[0].dtype
        )
        if refusal is not None:
            assert refusal.startswith("view 'stats', column 'value', row ")
            assert pq.read_table(name).num_rows == 0
            nothing = inside and any(expected_or_none(value, dtype) is None for value in rows[1])
            assert (
                columns.field("value").type != types["value"] or nothing or any(map(does_not_fit, rows[1], [dtype] * 9))
            )
            return
        found = joined(path, view, list(range(len(nested))))
        again = filled(path, view)
        assert again.keys() == found.keys()
        for place, value in enumerate(rows[1]):
            got = found[place][0] if inside else found[place]
            assert same(got, expected(value, dtype)), (got, value)
            assert same(again[place][0] if inside else again[place], got)


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from(ZONES), min_size=1, max_size=4), chunk=st.integers(1, 5))
def test_times_of_any_unit_and_zone_are_the_moments_they_were(kinds, chunk):
    moments = [T0 + timedelta(hours=number) for number in range(len(kinds))]
    with tempfile.TemporaryDirectory() as name:
        for number, (kind, moment) in enumerate(zip(kinds, moments, strict=True)):
            utc = pa.array([moment], pa.timestamp("us", "UTC"))
            table = pa.table(
                {
                    "key": pa.array([number], pa.int64()),
                    "event": utc.cast(kind),
                    "value": utc.cast(kind),
                    "unasked": utc.cast(pa.timestamp("us", "+02:30")),
                }
            )
            pq.write_table(table, Path(name) / f"{number}.parquet")
        view = request(name, UnixTimestamp)
        wanted = dict(enumerate(moments))
        assert joined(name, view, list(wanted), chunk) == wanted
        assert filled(name, view, chunk) == wanted
