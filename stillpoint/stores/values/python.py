"""The Python value that Feast's `to_dict()` gives for a stored value."""

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stillpoint.errors import CorruptData
from stillpoint.stores.values.decode import read_value, time_of
from stillpoint.stores.values.types import FIELD_NUMBERS, NULL_TIMESTAMP, ValueType


def to_python(type: ValueType, raw: Any) -> Any:
    """Return the Python value that Feast's `to_dict()` gives for a parsed value."""
    convert = _PYTHON.get(type)
    return raw if convert is None else convert(raw)


def decode_value(data: bytes | None, declared: ValueType | None = None) -> Any:
    """Return the Python value of stored bytes, None for null; `declared` is the feature's type in the registry.

    Raises:
        CorruptData: the bytes are not a serialized value. One of another type than declared is returned, as by Feast.
    """
    parsed = read_value(data) if data else None
    if parsed is None:
        return None
    type, raw = parsed
    if declared is not None and _was_text(type, declared):
        type = declared
    return to_python(type, raw)


def decode_declared(data: bytes | None, declared: ValueType) -> Any:
    """Decode as `decode_value`, but refuse a value of another type than declared.

    Raises:
        CorruptData: the bytes are not a serialized value of the type.
    """
    parsed = read_value(data) if data else None
    if (
        parsed is not None
        and FIELD_NUMBERS[parsed[0]] != FIELD_NUMBERS[declared]
        and not _was_text(parsed[0], declared)
    ):
        raise CorruptData(f"the stored bytes hold {parsed[0]}; expected {declared}")
    return decode_value(data, declared)


def _was_text(type: ValueType, declared: ValueType) -> bool:
    """Return whether an older Feast wrote this UUID type as text."""
    return type in _STRINGS and declared.removeprefix("TIME_") in _UUIDS


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    text = name.strip().removeprefix("UTC").removeprefix("GMT")
    if len(text) in (5, 6) and text[0] in "+-":
        sign = -1 if text[0] == "-" else 1
        return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))
    return UTC


def zoned_time(seconds: int, zone: str) -> datetime | None:
    return None if seconds == NULL_TIMESTAMP else datetime.fromtimestamp(seconds, tz=_zone(zone))


def _inner(parsed: tuple[ValueType, Any] | None) -> Any:
    return None if parsed is None else to_python(*parsed)


def _dict(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _inner(value) for key, value in raw.items()}


_STRINGS = {ValueType.STRING, ValueType.STRING_LIST, ValueType.STRING_SET}
_UUIDS = {"UUID", "UUID_LIST", "UUID_SET"}
_ELEMENTS: dict[str, Callable[[Any], Any]] = {
    "UNIX_TIMESTAMP": time_of,
    "JSON": _json,
    "UUID": uuid.UUID,
    "TIME_UUID": uuid.UUID,
    "DECIMAL": Decimal,
}


def _each(collect: Callable[[Iterable[Any]], Any], convert: Callable[[Any], Any], raw: list[Any]) -> Any:
    return collect(convert(item) for item in raw)


def _converters() -> dict[ValueType, Callable[[Any], Any]]:
    table: dict[ValueType, Callable[[Any], Any]] = {
        ValueType.MAP: _dict,
        ValueType.STRUCT: _dict,
        ValueType.MAP_LIST: lambda raw: [_dict(item) for item in raw],
        ValueType.STRUCT_LIST: lambda raw: [_dict(item) for item in raw],
        ValueType.VALUE_LIST: lambda raw: [_inner(item) for item in raw],
        ValueType.VALUE_SET: lambda raw: [_inner(item) for item in raw],
        ValueType.SCALAR_MAP: lambda raw: {key: _inner(value) for key, value in raw},
        ValueType.ZONED_TIMESTAMP: lambda raw: zoned_time(*raw),
    }
    for name, convert in _ELEMENTS.items():
        table[ValueType(name)] = convert
        table[ValueType(f"{name}_LIST")] = partial(_each, list, convert)
        if name != "JSON":
            table[ValueType(f"{name}_SET")] = partial(_each, set, convert)
    for name in ("BYTES", "STRING", "INT32", "INT64", "DOUBLE", "FLOAT", "BOOL"):
        table[ValueType(f"{name}_SET")] = set
    return table


_PYTHON = _converters()
