"""What are the Redis keys of many entities, from an Arrow table or from lists of Python values?"""

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from stillpoint.errors import InvalidInput
from stillpoint.stores.layout import ENTITYLESS_KEY, Column, ViewLayout, key_prefix
from stillpoint.stores.values_types import KEY_TYPES, ValueType


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
    """Put together keys from their encoded values, one list per join key in sorted order."""
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
    except (TypeError, ValueError, struct.error, AttributeError):
        pass
    for row, value in enumerate(values):
        try:
            encode(value)
        except (TypeError, ValueError, struct.error, AttributeError):
            found = "null" if value is None else f"{value!r}"
            raise InvalidInput(
                f"view {view}: join key {column.name} of row {row} is {found}; expected {column.type}"
            ) from None
    raise AssertionError("a value that failed once does not fail again")


def _values(layout: ViewLayout, column: Column, array: Any) -> list[Any]:
    if column.name == ENTITYLESS_KEY:
        return [""] * len(array)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if column.type is ValueType.UNIX_TIMESTAMP and pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("s", tz=array.type.tz), safe=False).cast(pa.int64())
    result: list[Any] = array.to_pylist()
    return result


def _sized(kind: ValueType, data: bytes) -> bytes:
    return struct.pack("<II", KEY_TYPES[kind], len(data)) + data


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
        if isinstance(value, bool) or value is None or value != int(value):
            raise TypeError
        return packer.pack(number, size, int(value))

    return encode


_plain_time = _number(ValueType.UNIX_TIMESTAMP, "q")


def _time(value: Any) -> bytes:
    if isinstance(value, datetime):
        value = int((value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp())
    return _plain_time(value)


_ENCODERS: dict[ValueType, Callable[[Any], bytes]] = {
    ValueType.STRING: _string,
    ValueType.BYTES: _bytes,
    ValueType.INT32: _number(ValueType.INT32, "i"),
    ValueType.INT64: _number(ValueType.INT64, "q"),
    ValueType.UNIX_TIMESTAMP: _time,
}
