"""Applies Feast's setting `coerce_tz_aware` to times without a zone, in every kind of spine alike.

Feast applies it only to pandas columns of times. Here it also holds for pandas objects, Arrow, Polars, SQL, text and dates:
true (Feast's default) takes a time without a zone as UTC and a date as its midnight UTC; false refuses both, with an error
that shows how to attach a zone in that kind of spine. Times typed into Feast's own command are UTC either way, since its
help shows times without a zone.
"""

import re
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import click
import pandas as pd
import pyarrow as pa

from stillpoint.errors import InvalidSpine

_ZONED = re.compile(r".*[T\s]\d[\d:.,]*\s*(Z|[+-]\d\d(:?\d\d)?)\s*", re.IGNORECASE | re.DOTALL)
_TIMES = pa.timestamp("us", tz="UTC")
_IN_ARROW = "table = table.set_column(table.column_names.index({name!r}), {name!r}, "


class SpineKind(Enum):
    """The kind of a given spine. The value is code that attaches a zone to a column of times, and of dates."""

    PANDAS = (
        "frame[{name!r}] = frame[{name!r}].dt.tz_localize('UTC')",
        "frame[{name!r}] = pd.to_datetime(frame[{name!r}], utc=True)",
    )
    ARROW = (
        _IN_ARROW + "pyarrow.compute.assume_timezone(table[{name!r}], 'UTC'))",
        _IN_ARROW + "table[{name!r}].cast(pyarrow.timestamp('us')).cast(pyarrow.timestamp('us', 'UTC')))",
    )
    POLARS = (
        "frame = frame.with_columns(pl.col({name!r}).dt.replace_time_zone('UTC'))",
        "frame = frame.with_columns(pl.col({name!r}).cast(pl.Datetime('us', 'UTC')))",
    )
    SQL = (
        "CAST({name} AS TIMESTAMP WITH TIME ZONE) AS {name}",
        "CAST({name} AS TIMESTAMP WITH TIME ZONE) AS {name}",
    )


def typed_into_feast() -> bool:
    """Return whether the caller is Feast's command `get-historical-features`."""
    context = click.get_current_context(silent=True)
    callback = None if context is None else context.command.callback
    return callback is not None and callback.__module__ == "feast.cli.features"


def with_zone(table: pa.Table, column: str, kind: SpineKind, *, naive_is_utc: bool) -> pa.Table:
    """Return the table with its time column as timestamps with a zone.

    Raises:
        InvalidSpine: the column holds no times, or one without a zone although those are refused.
    """
    held = table.schema.field(column).type
    if pa.types.is_timestamp(held):
        if held.tz is not None:
            return table
        if not naive_is_utc:
            raise InvalidSpine(_refusal(column, f"it holds {held}", kind.value[0]))
        # Arrow stores times without a zone as if they were UTC: keep the number and add the zone.
        return _replaced(table, column, table[column].cast(pa.timestamp(held.unit, tz="UTC")))
    if pa.types.is_date(held):
        if not naive_is_utc:
            raise InvalidSpine(_refusal(column, f"it holds {held}", kind.value[1]))
        return _replaced(table, column, table[column].cast(pa.timestamp("us")).cast(_TIMES))
    if pa.types.is_string(held) or pa.types.is_large_string(held):
        return _replaced(table, column, _read(column, table[column].to_pylist(), naive_is_utc=naive_is_utc))
    raise InvalidSpine(f"the spine's {column!r} holds {held}; expected timestamps with a zone")


def with_zoned_objects(frame: pd.DataFrame, *, naive_is_utc: bool) -> pd.DataFrame:
    """Return a frame whose Python times all have a zone (pandas keeps times of several zones as objects).

    Raises:
        InvalidSpine: one of them has no zone although `naive_is_utc` is false; names the row.
    """
    for name in frame.select_dtypes(include="object").columns:
        values = list(frame[name])
        naive = next((row for row, value in enumerate(values) if _naive(value)), None)
        if naive is None:
            continue
        if not naive_is_utc:
            raise InvalidSpine(_refusal(str(name), f"row {naive} is {values[naive]!s}", SpineKind.PANDAS.value[1]))
        zoned = [value.replace(tzinfo=UTC) if _naive(value) else value for value in values]
        frame = frame.copy(deep=False)
        frame[name] = pd.Series(zoned, index=frame.index, dtype=object)
    return frame


def refuse_dropped_offsets(sql: str) -> None:
    """Refuse SQL with a `TIMESTAMP` literal whose offset the SQL standard would silently drop.

    Raises:
        InvalidSpine: names the literal.
    """
    text = r"'[^']*\d[+-](?!00:?00)\d\d(?::?\d\d)?\s*'"
    found = re.search(
        rf"\bTIMESTAMP\s*({text})|CAST\s*\(\s*({text})\s+AS\s+(?:TIMESTAMP|DATETIME)\s*\)", sql, re.IGNORECASE
    )
    if found:
        literal = found.group(1) or found.group(2)
        raise InvalidSpine(
            f"the spine's SQL makes a TIMESTAMP of {literal}, which drops its offset; "
            f"write CAST({literal} AS TIMESTAMP WITH TIME ZONE)"
        )


def _naive(value: object) -> bool:
    return isinstance(value, datetime) and not pd.isna(value) and value.tzinfo is None


def _read(column: str, texts: list[Any], *, naive_is_utc: bool) -> pa.Array:
    for row, text in enumerate(texts):
        if text is not None and not naive_is_utc and not _ZONED.fullmatch(text):
            raise InvalidSpine(
                f"the spine's {column!r} has no time zone (row {row} is {text!r}); write it into the text, "
                f"for example '2026-03-01T12:00:00Z', or {_SETTING}"
            )
    try:
        moments = pd.to_datetime(pd.Series(list(texts), dtype=object), utc=True, format="ISO8601")
    except ValueError as error:
        raise InvalidSpine(f"the spine's {column!r} holds a text that is no ISO 8601 time: {error}") from None
    return pa.array(moments, type=_TIMES)


_SETTING = "set coerce_tz_aware: true, which takes times without a zone for UTC"


def _refusal(column: str, found: str, example: str) -> str:
    return (
        f"the spine's {column!r} has no time zone ({found}); attach the one it was recorded in, "
        f"for example {example.format(name=column)}, or {_SETTING}"
    )


def _replaced(table: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)
