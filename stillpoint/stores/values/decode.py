"""Decodes a stored value without Feast and without protobuf.

A stored value is a serialized `feast.types.Value`, a protobuf message with one field set; empty bytes are null. This
module parses one value of any type into raw content; `values/python.py` makes Python values of it.
"""

import struct
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from stillpoint.errors import CorruptData
from stillpoint.stores.values.types import (
    ELEMENT_CODES,
    NULL_FIELD,
    NULL_TIMESTAMP,
    TYPE_OF_FIELD,
    ValueType,
    element_type,
)

_BROKEN = (ValueError, LookupError, struct.error, TypeError, AttributeError, ArithmeticError, OSError)
"""The errors that parsing invalid bytes can raise, besides RecursionError for deeply nested maps."""


def read_value(data: bytes) -> tuple[ValueType, Any] | None:
    """Parse a stored value into its type and raw content, or None for null.

    Raw content: int, float, bool, str, bytes, a list of those; a dict of parsed values for MAP and STRUCT, a list of
    such dicts for MAP_LIST and STRUCT_LIST, a list of parsed values for VALUE_LIST and VALUE_SET, a list of
    (key, parsed value) for SCALAR_MAP, (seconds, zone) for ZONED_TIMESTAMP.

    Raises:
        CorruptData: the bytes are not a serialized value.
    """
    found: tuple[ValueType, Any] | None = None
    try:
        for number, content in _fields(data):
            if number == NULL_FIELD:
                found = None
            elif number in TYPE_OF_FIELD:
                type = TYPE_OF_FIELD[number]
                found = (type, _read_raw(type, content))
    except (*_BROKEN, RecursionError) as error:
        raise CorruptData(f"{data[:40]!r} is not a serialized feature value: {error}") from None
    return found


def time_of(seconds: int) -> datetime | None:
    """Return a stored time as a UTC datetime, or None for Feast's missing time."""
    return None if seconds == NULL_TIMESTAMP else datetime.fromtimestamp(seconds, tz=UTC)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    position, size = 0, len(data)
    while position < size:
        tag, position = _read_varint(data, position)
        wire = tag & 7
        content: Any
        if wire == 0:
            content, position = _read_varint(data, position)
        elif wire == 2:
            length, position = _read_varint(data, position)
            content = data[position : position + length]
            position += length
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
            content = data[position : position + length]
            position += length
        else:
            raise ValueError(f"wire type {wire}")
        if position > size:
            raise ValueError("cut off")
        yield tag >> 3, content


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")


def _signed(value: int, bits: int = 64) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _read_raw(type: ValueType, content: Any) -> Any:
    reader = _READERS.get(type)
    if reader is not None:
        return reader(content)
    element = element_type(type)
    assert element is not None
    return _read_repeated(element, content)


def _read_repeated(element: str, content: bytes) -> list[Any]:
    values: list[Any] = []
    code = ELEMENT_CODES.get(element)
    for number, part in _fields(content):
        if number != 1:
            continue
        if code is None:
            values.append(bytes(part) if element == "BYTES" else _text(part))
        elif isinstance(part, int):
            values.append(bool(part) if code == "b" else _signed(part))
        elif code in ("i", "b"):
            position = 0
            while position < len(part):
                value, position = _read_varint(part, position)
                values.append(bool(value) if code == "b" else _signed(value, 32 if element == "INT32" else 64))
        else:
            values.extend(struct.unpack(f"<{len(part) // struct.calcsize(code)}{code[1]}", part))
    return values


def _read_map(content: bytes) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, entry in _fields(content):
        if number == 1:
            key, value = "", b""
            for part, inner in _fields(entry):
                if part == 1:
                    key = _text(inner)
                elif part == 2:
                    value = inner
            result[key] = read_value(value)
    return result


def _read_scalar_map(content: bytes) -> list[tuple[Any, Any]]:
    entries = []
    for number, entry in _fields(content):
        if number == 1:
            key: Any = None
            value = None
            for part, inner in _fields(entry):
                if part == 1:
                    for key_number, key_content in _fields(inner):
                        key = _MAP_KEYS[key_number](key_content)
                elif part == 2:
                    value = read_value(inner)
            entries.append((key, value))
    return entries


def _read_zoned(content: bytes) -> tuple[int, str]:
    seconds, zone = 0, ""
    for number, part in _fields(content):
        if number == 1:
            seconds = _signed(part)
        elif number == 2:
            zone = _text(part)
    return seconds, zone


def _text(content: Any) -> str:
    if not isinstance(content, bytes):
        raise ValueError("a number where text is expected")
    return content.decode()


def _integer(bits: int) -> Callable[[Any], int]:
    return lambda content: _signed(content, bits)


def _float(code: str) -> Callable[[Any], float]:
    def read(content: Any) -> float:
        (value,) = struct.unpack(code, content)
        return float(value)

    return read


_READERS: dict[ValueType, Callable[[Any], Any]] = {
    ValueType.BYTES: bytes,
    ValueType.STRING: _text,
    ValueType.INT32: _integer(32),
    ValueType.INT64: _integer(64),
    ValueType.DOUBLE: _float("<d"),
    ValueType.FLOAT: _float("<f"),
    ValueType.BOOL: bool,
    ValueType.UNIX_TIMESTAMP: _integer(64),
    ValueType.MAP: _read_map,
    ValueType.STRUCT: _read_map,
    ValueType.MAP_LIST: lambda content: [_read_map(part) for number, part in _fields(content) if number == 1],
    ValueType.STRUCT_LIST: lambda content: [_read_map(part) for number, part in _fields(content) if number == 1],
    ValueType.JSON: _text,
    ValueType.UUID: _text,
    ValueType.TIME_UUID: _text,
    ValueType.DECIMAL: _text,
    ValueType.VALUE_LIST: lambda content: [read_value(part) for number, part in _fields(content) if number == 1],
    ValueType.VALUE_SET: lambda content: [read_value(part) for number, part in _fields(content) if number == 1],
    ValueType.SCALAR_MAP: _read_scalar_map,
    ValueType.ZONED_TIMESTAMP: _read_zoned,
}
_MAP_KEYS: dict[int, Callable[[Any], Any]] = {
    1: _integer(32),
    2: _integer(64),
    3: _float("<f"),
    4: _float("<d"),
    5: bool,
    6: lambda content: time_of(_signed(content)),
    7: bytes,
    8: lambda content: uuid.UUID(_text(content)),
    9: lambda content: uuid.UUID(_text(content)),
    10: lambda content: Decimal(_text(content)),
}
