"""Turns the answer of a read into a response of Feast's `/get-online-features`.

The statuses and values are Feast's own, so that its remote online store reads them; times and numbers are written as
protobuf's JSON has them.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.errors import CorruptData
from stillpoint.stores.feature_server.request import FeatureRequest
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.types import ABSENT_US, FieldStatus, Mode
from stillpoint.stores.redis.corrupt import corrupt_value
from stillpoint.stores.values.decode import read_value
from stillpoint.stores.values.python import zoned_time
from stillpoint.stores.values.types import ValueType

_STATUS = {
    int(FieldStatus.PRESENT): "PRESENT",
    int(FieldStatus.NULL_VALUE): "NULL_VALUE",
    int(FieldStatus.NOT_FOUND): "NOT_FOUND",
    # withheld: Feast's remote client would read OUTSIDE_MAX_AGE as a value
    int(FieldStatus.OUTSIDE_MAX_AGE): "NOT_FOUND",
}


def to_response(request: FeatureRequest, columns: OnlineColumns) -> dict[str, Any]:
    """Return Feast's response JSON for a read's answer; in compat mode with exactly Feast's values and statuses."""
    requested = request.requested
    present = ["PRESENT"] * columns.rows
    timeless = ["1970-01-01T00:00:00Z"] * columns.rows
    names: list[str] = []
    results: list[dict[str, Any]] = []

    def show(name: str, values: list[Any], statuses: list[str], times: list[str]) -> None:
        names.append(name)
        results.append({"values": values, "statuses": statuses, "event_timestamps": times})

    for name, given in columns.entities.items():
        show(name, [_key_json(value) for value in given], present, timeless)
    places = {full: place for place, full in enumerate(columns.full_names)}
    times = _times(columns, [part.shown_as for part in requested.selections])
    for part in requested.selections:
        for short in part.features:
            full = f"{part.shown_as}__{short}"
            statuses = (
                present if columns.mode is Mode.COMPAT else [_STATUS[code] for code in columns.status(full).tolist()]
            )
            show(
                full if request.full_names else short,
                _values(columns, places[full], full),
                statuses,
                times[part.shown_as],
            )
    for one in requested.computed:
        for short, values in one.values(columns, request.moment).items():
            show(f"{one.shown_as}__{short}" if request.full_names else short, values, present, timeless)
    metadata: dict[str, Any] = {"feature_names": names}
    if request.version_metadata:
        metadata["feature_view_metadata"] = [{"name": part.shown_as} for part in requested.shown]
    return {"results": results, "metadata": metadata}


def _values(columns: OnlineColumns, position: int, full: str) -> list[Any]:
    simple = columns.simple(position)
    if simple is not None:
        type, values = simple
        if type not in _NUMBERS or all(map(math.isfinite, filter(None, values))):
            return values
        return [None if value is None else _number(value) for value in values]
    view, feature, keys, stored, rows = columns.stored(position)
    shown = []
    for key, data in zip(keys, stored, strict=True):
        try:
            parsed = read_value(data) if data else None
            shown.append(None if parsed is None else to_json(*parsed))
        except (CorruptData, ValueError, OverflowError, OSError) as error:
            raise corrupt_value(view, feature, key, str(error)) from None
    placed = shown if rows is None else [shown[row] for row in rows]
    if columns.mode is Mode.COMPAT:
        return placed
    there = columns.status(full) == FieldStatus.PRESENT
    return [value if known else None for value, known in zip(placed, there.tolist(), strict=True)]


def to_json(type: ValueType, raw: Any) -> Any:
    """Return a parsed value as Feast's feature server writes it: bytes as base64, times as seconds, sets as lists."""
    if type in _NUMBERS:
        return _number(raw)
    if type in _FLOATS:
        return [_number(item) for item in raw]
    if type is ValueType.BYTES:
        return base64.b64encode(raw).decode()
    if type in (ValueType.BYTES_LIST, ValueType.BYTES_SET):
        return [base64.b64encode(item).decode() for item in raw]
    if type in (ValueType.MAP, ValueType.STRUCT):
        return {key: _nested(item) for key, item in raw.items()}
    if type in (ValueType.MAP_LIST, ValueType.STRUCT_LIST):
        return [{key: _nested(item) for key, item in part.items()} for part in raw]
    if type in (ValueType.VALUE_LIST, ValueType.VALUE_SET):
        return [_nested(item) for item in raw]
    if type is ValueType.SCALAR_MAP:
        return None  # as Feast 0.67: it has no JSON form for keys that are not text
    if type is ValueType.ZONED_TIMESTAMP:
        moment = zoned_time(*raw)
        return None if moment is None else moment.isoformat()
    return raw


_NUMBERS = {ValueType.DOUBLE, ValueType.FLOAT}
_FLOATS = {ValueType.DOUBLE_LIST, ValueType.FLOAT_LIST, ValueType.DOUBLE_SET, ValueType.FLOAT_SET}


def _nested(parsed: tuple[ValueType, Any] | None) -> Any:
    return None if parsed is None else to_json(*parsed)


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _times(columns: OnlineColumns, views: Sequence[str]) -> dict[str, list[str]]:
    """Return each view's event times as text, converted together, since a request has many views and few rows."""
    if not views:
        return {}
    texts = time_texts(np.concatenate([columns.event_us(view) for view in views]))
    return {view: texts[place * columns.rows : (place + 1) * columns.rows] for place, view in enumerate(views)}


def time_texts(micros: npt.NDArray[np.int64]) -> list[str]:
    """Return times as protobuf's JSON has them: 0, 3 or 6 digits of a second."""
    known = np.where(micros == ABSENT_US, 0, micros)
    texts = np.datetime_as_string(known.astype("datetime64[us]")).tolist()
    lengths = np.where(known % 1_000_000 == 0, 19, np.where(known % 1_000 == 0, 23, 26)).tolist()
    return [f"{text[:length]}Z" for text, length in zip(texts, lengths, strict=True)]


def _key_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
