"""The Redis keys of many entities, from an Arrow table or from lists of Python values."""

import re
import struct
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa

from stillpoint.errors import InvalidInput
from stillpoint.excerpt import excerpt
from stillpoint.stores.redis.layout import ENTITYLESS_KEY, Column, ViewLayout, key_prefix
from stillpoint.stores.values.encode import is_missing
from stillpoint.stores.values.types import KEY_TYPES, ValueType


def encode_keys(layout: ViewLayout, table: Any, project: str) -> list[bytes]:
    """Return one key per row of an Arrow table that has the view's join keys.

    Raises:
        InvalidInput: a join key is null or of the wrong type; names view, join key and row.
    """
    prefix = key_prefix([column.name for column in layout.join_keys])
    parts = [
        encode_key_values(column, _values(layout, column, table.column(column.name)), layout.name)
        for column in layout.sorted_join_keys
    ]
    return join_keys(prefix, parts, project.encode(), table.num_rows)


def join_keys(prefix: bytes, parts: Sequence[Sequence[bytes]], project: bytes, rows: int) -> list[bytes]:
    """Assemble keys from their encoded values, one list per join key in sorted order."""
    if len(parts) == 1:
        return [prefix + value + project for value in parts[0]]
    if not parts:
        return [prefix + project] * rows
    return [b"".join((prefix, *values, project)) for values in zip(*parts, strict=True)]


def encode_key_values(column: Column, values: Sequence[Any], view: str) -> list[bytes]:
    """Encode the values of one join key.

    Raises:
        InvalidInput: a value is null or does not fit the declared type; names view, join key and row.
    """
    encode = _ENCODERS[column.type]
    try:
        return [encode(value) for value in values]
    except _MISFITS:
        return [encode(value) for value in plain_keys(column, values, view)]


def plain_keys(column: Column, values: Sequence[Any], view: str) -> list[Any]:
    """Convert the values of one join key to the declared type: text, bytes, or whole numbers.

    A text key may be given as a whole number, a UUID or a date; a whole number as a float without a fraction; a time as a
    date, in seconds since 1970, or as a datetime (without a zone it is UTC). A conversion that would lose information is
    refused.

    Raises:
        InvalidInput: a value is null, NaN or does not fit the declared type; names view, join key and row.
    """
    plain = _PLAIN[column.type]
    result = []
    for row, value in enumerate(values):
        try:
            result.append(plain(value))
        except _MISFITS:
            found = "null" if is_missing(value) else excerpt(value)
            raise InvalidInput(
                f"view {view}: join key {column.name} of row {row} is {found}; expected {column.type}"
            ) from None
    return result


def requested_keys(column: Column, values: Sequence[Any], view: str) -> list[Any]:
    """Convert the keys of a read as `plain_keys`; a whole number may also be given as text, as in protobuf's JSON.

    Raises:
        InvalidInput: as `plain_keys`.
    """
    if column.type in (ValueType.INT32, ValueType.INT64):
        values = [int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value for value in values]
    return plain_keys(column, values, view)


_DIGITS = re.compile("-?[0-9]{1,19}")


def _values(layout: ViewLayout, column: Column, array: Any) -> list[Any]:
    if column.name == ENTITYLESS_KEY:
        return [""] * len(array)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    result: list[Any] = array.to_pylist()
    return result


def _sized(kind: ValueType, data: bytes) -> bytes:
    return struct.pack("<II", KEY_TYPES[kind], len(data)) + data


_MISFITS = (TypeError, ValueError, struct.error, AttributeError, OverflowError)
_STRING_HEAD = [struct.pack("<II", KEY_TYPES[ValueType.STRING], length) for length in range(256)]


def _string(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError
    data = value.encode()
    size = len(data)
    return _STRING_HEAD[size] + data if size < 256 else _sized(ValueType.STRING, data)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return _sized(ValueType.BYTES, value)


def _number(kind: ValueType, code: str) -> Callable[[Any], bytes]:
    packer = struct.Struct(f"<II{code}")
    number, size = KEY_TYPES[kind], struct.calcsize(f"<{code}")

    def encode(value: Any) -> bytes:
        if type(value) is not int:
            raise TypeError
        return packer.pack(number, size, value)

    return encode


_ENCODERS: dict[ValueType, Callable[[Any], bytes]] = {
    ValueType.STRING: _string,
    ValueType.BYTES: _bytes,
    ValueType.INT32: _number(ValueType.INT32, "i"),
    ValueType.INT64: _number(ValueType.INT64, "q"),
    ValueType.UNIX_TIMESTAMP: _number(ValueType.UNIX_TIMESTAMP, "q"),
}
"""Encoders of values as `plain_keys` returns them; any other value is refused, then converted and tried again."""


def _plain_string(value: Any) -> str:
    if isinstance(value, str):
        value.encode()  # raises for half a surrogate pair
        return str(value)
    if isinstance(value, datetime) or not isinstance(value, uuid.UUID | date):
        return str(_plain_whole(value, 128, floats=False))
    return str(value)


def _plain_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError
    return value


def _plain_whole(value: Any, bits: int, *, floats: bool = True) -> int:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal if floats else int):
        raise TypeError
    number = int(value)
    if number != value or not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise ValueError
    return number


def _plain_time(value: Any) -> int:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        return _plain_whole(value, 64)
    since = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH
    if since.microseconds or getattr(value, "nanosecond", 0):
        raise ValueError  # a key holds whole seconds; rounding would name another entity
    return since.days * 86_400 + since.seconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLAIN: dict[ValueType, Callable[[Any], Any]] = {
    ValueType.STRING: _plain_string,
    ValueType.BYTES: _plain_bytes,
    ValueType.INT32: partial(_plain_whole, bits=32),
    ValueType.INT64: partial(_plain_whole, bits=64),
    ValueType.UNIX_TIMESTAMP: _plain_time,
}
