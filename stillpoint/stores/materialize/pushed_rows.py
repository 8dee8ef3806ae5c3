"""Encodes a pushed frame to exactly the bytes that a fill of the same rows writes.

Feast would make a Python object of each value and convert whole numbers beside a null to floats. Here each column is
encoded as in a fill: from Arrow if pandas has a type for it, and value by value if it holds objects.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureView
from feast.data_source import DataSource

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.names import Names
from stillpoint.stores.materialize.sink import view_layout
from stillpoint.stores.redis.keys import encode_key_values, join_keys
from stillpoint.stores.redis.layout import (
    ENTITYLESS_KEY,
    Column,
    ViewLayout,
    describe_key,
    encode_created,
    key_prefix,
)
from stillpoint.stores.redis.writer import NO_CREATED, EncodedRows
from stillpoint.stores.values.columns import encode_column
from stillpoint.stores.values.encode import encode_value, is_missing
from stillpoint.stores.values.exact_times import utc_micros
from stillpoint.stores.values.times import encode_time


def pushed_rows(
    view: FeatureView, source: DataSource, frame: pd.DataFrame, project: str
) -> tuple[ViewLayout, EncodedRows]:
    """Encode a frame of a view's join keys, features and times, under the source's names or the view's.

    Raises:
        InvalidInput: a column is missing, or a value does not fit its type; names view, column, row and value.
    """
    names = Names.of(source)
    layout = view_layout(view)
    frame = frame.rename(columns=names.called)
    frame = frame.rename(columns={names.mapped(c.name): c.name for c in (*layout.join_keys, *layout.features)})
    event = names.mapped(source.timestamp_field)
    created = names.mapped(source.created_timestamp_column) if source.created_timestamp_column else None
    keys = [column.name for column in layout.join_keys if column.name != ENTITYLESS_KEY]
    wanted = [*keys, *(column.name for column in layout.features), event, *([created] if created else [])]
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise InvalidInput(
            f"view {view.name}: column {', '.join(missing)} is missing; the frame has {', '.join(map(str, frame.columns))}"
        )
    parts = [encode_key_values(column, _values(frame, column.name), view.name) for column in layout.sorted_join_keys]
    redis_keys = join_keys(
        key_prefix([column.name for column in layout.join_keys]), parts, project.encode(), len(frame)
    )
    events = [encode_time(micros) for micros in _required(view.name, event, pushed_times(frame[event], view.name))]
    learned = [None] * len(frame) if created is None else pushed_times(frame[created], view.name)
    stamps = [
        NO_CREATED if micros is None else encode_created(micros, at) for micros, at in zip(learned, events, strict=True)
    ]
    values = [_column(layout, column, frame[column.name], redis_keys) for column in layout.features]
    return layout, EncodedRows(redis_keys, events, stamps, values)


def pushed_times(series: "pd.Series[Any]", view: str) -> list[int | None]:
    """Return times as microseconds since 1970. Without a zone they are UTC, as text they are ISO 8601: Feast's own rules.

    Raises:
        InvalidInput: a value is not a time; names view, column and row.
    """
    try:
        if isinstance(series.dtype, pd.DatetimeTZDtype) or series.dtype.kind == "M":
            moments = pd.to_datetime(series, utc=True)
        else:
            moments = pd.Series([_moment(value) for value in series], dtype="datetime64[us, UTC]")
    except (TypeError, ValueError, OverflowError):
        for row, value in enumerate(series):
            try:
                _moment(value)
            except (TypeError, ValueError, OverflowError):
                raise InvalidInput(
                    f"view {view}: {series.name} of row {row} is {value!r:.60}; expected a time, or its text as ISO 8601"
                ) from None
        raise
    return list(utc_micros(pa.array(moments, from_pandas=True)).to_pylist())


def _moment(value: Any) -> "datetime | None":
    if is_missing(value):
        return None
    if not isinstance(value, str | datetime):
        raise TypeError
    moment = pd.Timestamp(value)
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


def _required(view: str, name: str, times: list[int | None]) -> list[int]:
    if None in times:
        raise InvalidInput(f"view {view}: {name} of row {times.index(None)} is null")
    return [micros for micros in times if micros is not None]


def _values(frame: pd.DataFrame, name: str) -> list[Any]:
    return [""] * len(frame) if name == ENTITYLESS_KEY else list(frame[name].tolist())


def _column(layout: ViewLayout, column: Column, series: "pd.Series[Any]", keys: list[bytes]) -> list[bytes]:
    encode: Callable[[Any], bytes] = lambda value: encode_value(column.type, value)  # noqa: E731
    values: list[Any] = series.tolist()
    try:
        if series.dtype != object:
            return encode_column(column.type, pa.array(series, from_pandas=True))
        return [encode(value) for value in values]
    except (InvalidInput, TypeError, ValueError, OverflowError, ArithmeticError):
        pass
    result = []
    for row, value in enumerate(values):
        try:
            result.append(encode(value))
        except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
            raise InvalidInput(
                f"feature {layout.name}:{column.name}, entity {describe_key(keys[row])}, row {row}: expected {column.type}: "
                f"{error}; found {value!r:.60}"
            ) from None
    return result
