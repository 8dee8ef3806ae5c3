"""Checks a spine for a point-in-time join, and prepares its rows.

A spine is a pandas DataFrame, an Arrow table or a Polars frame with join keys and one timestamp column. It is refused
rather than repaired: a time without a zone could be any of 24 hours.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from stillpoint.errors import InvalidSpine
from stillpoint.stores.history.point_in_time import Ints

EVENT_TIMESTAMP = "event_timestamp"
_ZONED = re.compile(r".*(Z|[+-]\d\d:?\d\d)\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spine:
    """The rows to be joined, as they came (`table`), the name of their time column, and their times in microseconds."""

    table: pa.Table
    frame: pl.DataFrame
    time_column: str
    times: Ints


def read_spine(given: object) -> Spine:
    """Return the spine's rows in their order. Duplicates stay; an index of pandas is dropped.

    Raises:
        InvalidSpine: it is of an unknown kind, a column mixes types, or its times are missing, null or without a zone.
    """
    table = _to_arrow(given)
    duplicated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if duplicated:
        raise InvalidSpine(f"the spine has several columns named {', '.join(sorted(duplicated))}; names must differ")
    time_column = _time_column(table)
    table = _zoned(table, time_column)
    times = table[time_column]
    if times.null_count:
        row = next(index for index, value in enumerate(times) if not value.is_valid)
        raise InvalidSpine(f"the spine's {time_column!r} is null in row {row} ({times.null_count} such rows)")
    micros = times.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())
    frame = pl.from_arrow(_in_utc(table))
    assert isinstance(frame, pl.DataFrame)
    return Spine(table=table, frame=frame, time_column=time_column, times=np.asarray(micros.to_numpy(), dtype=np.int64))


def _in_utc(table: pa.Table) -> pa.Table:
    """Return the table with its zones as UTC: Polars knows named zones only, and Arrow also offsets such as +05:30."""
    for index, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            column = table[field.name].cast(pa.timestamp(field.type.unit, tz="UTC"))
            table = table.set_column(index, field.name, column)
    return table


def _to_arrow(given: object) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pl.LazyFrame):
        given = given.collect()
    if isinstance(given, pl.DataFrame):
        return given.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not isinstance(given, pd.DataFrame):
        raise InvalidSpine(
            f"the spine is a {type(given).__name__}; expected a pandas DataFrame, a pyarrow Table, "
            "a polars DataFrame or a SQL query"
        )
    for column in given.select_dtypes(include="object").columns:
        _refuse_naive_objects(str(column), given[column])
    try:
        return pa.Table.from_pandas(given, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidSpine(
            f"a column of the spine mixes types: {'; '.join(str(part) for part in error.args)}"
        ) from None


def _refuse_naive_objects(column: str, values: Iterable[object]) -> None:
    """Look into a column of Python objects: pandas keeps times of different zones so, and a naive one may be among them."""
    for row, value in enumerate(values):
        if isinstance(value, datetime) and not pd.isna(value) and value.tzinfo is None:
            raise InvalidSpine(_without_zone(column, f"row {row} is {value!s}"))
        if isinstance(value, str | int | float):
            return


def _without_zone(column: str, found: str) -> str:
    return (
        f"the spine's {column!r} has no time zone ({found}); attach the one it was recorded in, "
        f"for example frame[{column!r}] = frame[{column!r}].dt.tz_localize('UTC')"
    )


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


def _zoned(table: pa.Table, column: str) -> pa.Table:
    kind = table.schema.field(column).type
    if pa.types.is_timestamp(kind):
        if kind.tz is None:
            raise InvalidSpine(_without_zone(column, f"it holds {kind}"))
        return table
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = table[column].to_pylist()
        for row, text in enumerate(texts):
            if text is not None and not _ZONED.fullmatch(text):
                raise InvalidSpine(_without_zone(column, f"row {row} is {text!r}"))
        try:
            moments = pd.to_datetime(pd.Series(texts), utc=True, format="ISO8601")
        except ValueError as error:
            raise InvalidSpine(f"the spine's {column!r} holds a text that is no ISO 8601 time: {error}") from None
        return table.set_column(
            table.column_names.index(column), column, pa.array(moments, type=pa.timestamp("us", tz="UTC"))
        )
    raise InvalidSpine(f"the spine's {column!r} holds {kind}; expected timestamps with a zone")
