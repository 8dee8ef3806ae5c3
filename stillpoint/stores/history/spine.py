"""Checks a spine for a point-in-time join, and prepares its rows.

A spine is a pandas DataFrame, an Arrow table, a Polars frame or what SQL selected, with join keys and one column of times.
It is refused rather than repaired. `zones` says what a time without a zone means.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from stillpoint.errors import InvalidSpine
from stillpoint.stores.history.column_types import has_other_zone, in_utc
from stillpoint.stores.history.point_in_time import Ints
from stillpoint.stores.history.zones import SpineKind, with_zone, with_zoned_objects
from stillpoint.stores.values.exact import convert, is_text, one_array
from stillpoint.stores.values.exact_times import utc_micros

EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spine:
    """The rows to be joined, as they came (`table`), the name of their time column, and their times in microseconds."""

    table: pa.Table
    frame: pl.DataFrame
    time_column: str
    times: Ints


def read_spine(given: object, *, naive_is_utc: bool = False, sql: bool = False) -> Spine:
    """Return the spine's rows in their order. Duplicates stay; an index of pandas is dropped.

    `naive_is_utc` takes a time without a zone for UTC; `sql` says that a query made the frame.

    Raises:
        InvalidSpine: it is of an unknown kind, a column mixes types, or its times are missing, null or, unless
            `naive_is_utc`, without a zone.
    """
    kind, table = _to_arrow(given, naive_is_utc=naive_is_utc)
    duplicated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if duplicated:
        raise InvalidSpine(f"the spine has several columns named {', '.join(sorted(duplicated))}; names must differ")
    time_column = _time_column(table)
    table = _typed_if_empty(table, time_column)
    table = with_zone(table, time_column, SpineKind.SQL if sql else kind, naive_is_utc=naive_is_utc)
    times = table[time_column]
    if times.null_count:
        row = next(index for index, value in enumerate(times) if not value.is_valid)
        raise InvalidSpine(f"the spine's {time_column!r} is null in row {row} ({times.null_count} such rows)")
    micros = np.asarray(utc_micros(times).to_numpy(zero_copy_only=False), dtype=np.int64)
    return Spine(table=table, frame=as_frame(table), time_column=time_column, times=micros)


def as_frame(table: pa.Table) -> pl.DataFrame:
    """Return a spine for Polars, its zones as UTC: Polars knows named zones only, and Arrow also offsets such as +05:30.

    UUIDs, of which Polars would make bytes, are their usual text, as in a read.
    """
    for index, field in enumerate(table.schema):
        if getattr(field.type, "extension_name", None) == "arrow.uuid":
            texts = [None if value is None else str(value) for value in table[field.name].to_pylist()]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        if has_other_zone(field.type):
            column = convert(one_array(table[field.name]), in_utc(field.type)).values
            table = table.set_column(index, field.name, column)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _to_arrow(given: object, *, naive_is_utc: bool) -> tuple[SpineKind, pa.Table]:
    if isinstance(given, pa.Table):
        return SpineKind.ARROW, given
    if isinstance(given, pl.LazyFrame):
        given = given.collect()
    if isinstance(given, pl.DataFrame):
        return SpineKind.POLARS, given.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not isinstance(given, pd.DataFrame):
        raise InvalidSpine(
            f"the spine is a {type(given).__name__}; expected a pandas DataFrame, a pyarrow Table, "
            "a polars DataFrame or a SQL query"
        )
    given = with_zoned_objects(given, naive_is_utc=naive_is_utc)
    try:
        return SpineKind.PANDAS, pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidSpine(
            f"a column of the spine mixes types: {'; '.join(str(part) for part in error.args)}"
        ) from None


def _typed_if_empty(table: pa.Table, column: str) -> pa.Table:
    """Give the times of a spine without rows a type: pandas has none for a column that never held a value."""
    kind = table.schema.field(column).type
    if table.num_rows or pa.types.is_timestamp(kind) or is_text(kind):
        return table
    return table.set_column(table.column_names.index(column), column, pa.array([], pa.timestamp("us", tz="UTC")))


def _time_column(table: pa.Table) -> str:
    if EVENT_TIMESTAMP in table.column_names:
        return EVENT_TIMESTAMP
    found: list[str] = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
    if len(found) != 1:
        raise InvalidSpine(
            f"the spine has no column {EVENT_TIMESTAMP!r}, and {len(found)} columns of times "
            f"({', '.join(found) or 'none'}); name one of its columns ({', '.join(table.column_names)}) {EVENT_TIMESTAMP!r}"
        )
    return found[0]
