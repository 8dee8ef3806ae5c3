"""How is one value written as bytes, and read back, without Feast and without protobuf?

A stored value is a serialized `feast.types.Value`, a protobuf message with one field set; empty bytes are null. This
module encodes and decodes one value of any type; `values_columns.py` does whole columns of the common types at once.
"""

import json
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stillpoint.errors import CorruptData

NULL_TIMESTAMP = -(2**63)
"""Feast's integer for a missing time inside a value."""


class ValueType(StrEnum):
    """Feast's value types, by Feast's names."""

    BYTES = "BYTES"
    STRING = "STRING"
    INT32 = "INT32"
    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    FLOAT = "FLOAT"
    BOOL = "BOOL"
    UNIX_TIMESTAMP = "UNIX_TIMESTAMP"
    BYTES_LIST = "BYTES_LIST"
    STRING_LIST = "STRING_LIST"
    INT32_LIST = "INT32_LIST"
    INT64_LIST = "INT64_LIST"
    DOUBLE_LIST = "DOUBLE_LIST"
    FLOAT_LIST = "FLOAT_LIST"
    BOOL_LIST = "BOOL_LIST"
    UNIX_TIMESTAMP_LIST = "UNIX_TIMESTAMP_LIST"
    MAP = "MAP"
    MAP_LIST = "MAP_LIST"
    BYTES_SET = "BYTES_SET"
    STRING_SET = "STRING_SET"
    INT32_SET = "INT32_SET"
    INT64_SET = "INT64_SET"
    DOUBLE_SET = "DOUBLE_SET"
    FLOAT_SET = "FLOAT_SET"
    BOOL_SET = "BOOL_SET"
    UNIX_TIMESTAMP_SET = "UNIX_TIMESTAMP_SET"
    PDF_BYTES = "PDF_BYTES"
    IMAGE_BYTES = "IMAGE_BYTES"
    JSON = "JSON"
    JSON_LIST = "JSON_LIST"
    STRUCT = "STRUCT"
    STRUCT_LIST = "STRUCT_LIST"
    UUID = "UUID"
    TIME_UUID = "TIME_UUID"
    UUID_LIST = "UUID_LIST"
    TIME_UUID_LIST = "TIME_UUID_LIST"
    UUID_SET = "UUID_SET"
    TIME_UUID_SET = "TIME_UUID_SET"
    VALUE_LIST = "VALUE_LIST"
    VALUE_SET = "VALUE_SET"
    DECIMAL = "DECIMAL"
    DECIMAL_LIST = "DECIMAL_LIST"
    DECIMAL_SET = "DECIMAL_SET"
    SCALAR_MAP = "SCALAR_MAP"
    ZONED_TIMESTAMP = "ZONED_TIMESTAMP"


_NUMBERS = {
    1: "BYTES", 2: "STRING", 3: "INT32", 4: "INT64", 5: "DOUBLE", 6: "FLOAT", 7: "BOOL", 8: "UNIX_TIMESTAMP",
    11: "BYTES_LIST", 12: "STRING_LIST", 13: "INT32_LIST", 14: "INT64_LIST", 15: "DOUBLE_LIST", 16: "FLOAT_LIST",
    17: "BOOL_LIST", 18: "UNIX_TIMESTAMP_LIST", 20: "MAP", 21: "MAP_LIST", 22: "BYTES_SET", 23: "STRING_SET",
    24: "INT32_SET", 25: "INT64_SET", 26: "DOUBLE_SET", 27: "FLOAT_SET", 28: "BOOL_SET", 29: "UNIX_TIMESTAMP_SET",
    32: "JSON", 33: "JSON_LIST", 34: "STRUCT", 35: "STRUCT_LIST", 36: "UUID", 37: "TIME_UUID", 38: "UUID_LIST",
    39: "TIME_UUID_LIST", 40: "UUID_SET", 41: "TIME_UUID_SET", 42: "VALUE_LIST", 43: "VALUE_SET", 44: "DECIMAL",
    45: "DECIMAL_LIST", 46: "DECIMAL_SET", 47: "SCALAR_MAP", 48: "ZONED_TIMESTAMP",
}  # fmt: skip
FIELD_NUMBERS: dict[ValueType, int] = {ValueType(name): number for number, name in _NUMBERS.items()} | {
    ValueType.PDF_BYTES: 1,
    ValueType.IMAGE_BYTES: 1,
}
"""The field of `feast.types.Value` that holds a type."""
_TYPE_OF_FIELD = {number: ValueType(name) for number, name in _NUMBERS.items()}
_NULL_FIELD = 19

KEY_TYPES: dict[ValueType, int] = {
    ValueType.BYTES: 1,
    ValueType.STRING: 2,
    ValueType.INT32: 3,
    ValueType.INT64: 4,
    ValueType.UNIX_TIMESTAMP: 8,
}
"""The types that a join key can have, and their numbers in a key."""

_ELEMENT = {"INT32": "i", "INT64": "i", "UNIX_TIMESTAMP": "i", "BOOL": "b", "DOUBLE": "<d", "FLOAT": "<f"}


def element_type(type: ValueType) -> str | None:
    """Return the name of a list's or set's element type, None for everything else."""
    for suffix in ("_LIST", "_SET"):
        if type.endswith(suffix):
            return type[: -len(suffix)]
    return None


# --- decoding -------------------------------------------------------------------------------------------------------


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
            if number == _NULL_FIELD:
                found = None
            elif number in _TYPE_OF_FIELD:
                type = _TYPE_OF_FIELD[number]
                found = (type, _read_raw(type, content))
    except (ValueError, IndexError, struct.error, TypeError, AttributeError) as error:
        raise CorruptData(f"{data[:40]!r} is not a serialized feature value: {error}") from None
    return found


def to_python(type: ValueType, raw: Any) -> Any:
    """Return the Python value that Feast's `to_dict()` gives for a parsed value."""
    convert = _PYTHON.get(type)
    return raw if convert is None else convert(raw)


def decode_value(data: bytes | None, declared: ValueType | None = None) -> Any:
    """Return the Python value of stored bytes, None for null; `declared` is the feature's type in the registry."""
    parsed = read_value(data) if data else None
    if parsed is None:
        return None
    type, raw = parsed
    if declared is not None and type is not declared and type in _STRINGS and declared.removeprefix("TIME_") in _UUIDS:
        type = declared  # written as text by an old Feast
    return to_python(type, raw)


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
    code = _ELEMENT.get(element)
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
            values.extend(value for (value,) in struct.iter_unpack(code, part))
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


def _time(seconds: int) -> datetime | None:
    return None if seconds == NULL_TIMESTAMP else datetime.fromtimestamp(seconds, tz=UTC)


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
    6: lambda content: _time(_signed(content)),
    7: bytes,
    8: lambda content: uuid.UUID(_text(content)),
    9: lambda content: uuid.UUID(_text(content)),
    10: lambda content: Decimal(_text(content)),
}
_STRINGS = {ValueType.STRING, ValueType.STRING_LIST, ValueType.STRING_SET}
_UUIDS = {"UUID", "UUID_LIST", "UUID_SET"}
_ELEMENTS: dict[str, Callable[[Any], Any]] = {
    "UNIX_TIMESTAMP": _time,
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


# --- encoding -------------------------------------------------------------------------------------------------------


def encode_value(type: ValueType, value: Any) -> bytes:
    """Return the stored bytes of a Python value of a declared type; None is null. NaN is null for scalars, as in Feast.

    Times are cut to whole seconds, as Feast stores them.

    Raises:
        TypeError, ValueError: the value does not fit the type; the caller knows view, feature and entity.
    """
    if value is None:
        return b""
    number = FIELD_NUMBERS[type]
    if type in (ValueType.INT32, ValueType.INT64):
        return _tag(number, 0) + varint(_whole(value, 32 if type is ValueType.INT32 else 64))
    if type in (ValueType.DOUBLE, ValueType.FLOAT):
        if value != value:
            return b""
        return _tag(number, 1 if type is ValueType.DOUBLE else 5) + struct.pack(_ELEMENT[type], value)
    if type is ValueType.BOOL:
        return _tag(number, 0) + (b"\x01" if _flag(value) else b"\x00")
    if type is ValueType.UNIX_TIMESTAMP:
        return _tag(number, 0) + varint(_seconds(value))
    return _tag(number, 2) + _sized(_content(type, value))


def varint(value: int) -> bytes:
    """Return the protobuf varint of an integer; negative ones take ten bytes."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _content(type: ValueType, value: Any) -> bytes:
    if type in (ValueType.BYTES, ValueType.PDF_BYTES, ValueType.IMAGE_BYTES):
        return _bytes(value)
    if type in (ValueType.STRING, ValueType.UUID, ValueType.TIME_UUID, ValueType.DECIMAL):
        return _string(type, value)
    if type is ValueType.JSON:
        return _json_text(value)
    if type in (ValueType.MAP, ValueType.STRUCT):
        return _map(value)
    if type in (ValueType.MAP_LIST, ValueType.STRUCT_LIST):
        return b"".join(b"\x0a" + _sized(_map(item)) for item in value)
    if type is ValueType.SCALAR_MAP:
        return b"".join(b"\x0a" + _sized(_scalar_entry(key, item)) for key, item in _pairs(value))
    if type in (ValueType.VALUE_LIST, ValueType.VALUE_SET):
        return b"".join(b"\x0a" + _sized(_inferred_collection(item)) for item in value)
    if type is ValueType.ZONED_TIMESTAMP:
        return _zoned(value)
    element = element_type(type)
    assert element is not None
    return _repeated(element, value)


def _repeated(element: str, values: Iterable[Any]) -> bytes:
    code = _ELEMENT.get(element)
    items = list(values)
    if code is None:
        return b"".join(b"\x0a" + _sized(_content(ValueType(element), item)) for item in items)
    if not items:
        return b""
    if code == "i":
        whole = _seconds if element == "UNIX_TIMESTAMP" else lambda item: _whole(item, 32 if element == "INT32" else 64)
        packed = b"".join(varint(whole(item)) for item in items)
    elif code == "b":
        packed = bytes(int(_flag(item)) for item in items)
    else:
        packed = struct.pack(f"<{len(items)}{code[1]}", *items)
    return b"\x0a" + _sized(packed)


def _map(value: Any) -> bytes:
    out = []
    for key, item in _pairs(value):
        if not isinstance(key, str):
            raise TypeError(f"map key {key!r} is no text")
        out.append(b"\x0a" + _sized(b"\x0a" + _sized(key.encode()) + b"\x12" + _sized(_inferred(item))))
    return b"".join(out)


def _pairs(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, list) and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return value
    raise TypeError(f"expected a map, found {value!r}")


def _inferred_collection(value: Any) -> bytes:
    return b"" if value is None or len(value) == 0 else _inferred(list(value))


def _inferred(value: Any) -> bytes:
    """Encode a value inside a map or a nested collection; its type is taken from the Python value, as Feast does."""
    return b"" if value is None else encode_value(infer_type(value), value)


def infer_type(value: Any) -> ValueType:
    """Return the type that Feast infers for a Python value.

    Raises:
        TypeError: Feast could not store it either.
    """
    if isinstance(value, bool):
        return ValueType.BOOL
    for kind, type in _INFERRED:
        if isinstance(value, kind):
            return type
    if isinstance(value, dict):
        return ValueType.SCALAR_MAP if value and not isinstance(next(iter(value)), str) else ValueType.MAP
    if isinstance(value, (list, tuple, set, frozenset)) and value:
        items = list(value)
        if isinstance(items[0], dict):
            return ValueType.MAP_LIST
        if isinstance(items[0], (list, tuple, set)):
            return ValueType.VALUE_LIST
        kinds = {infer_type(item) for item in items}
        if len(kinds) == 1:
            return ValueType(f"{kinds.pop()}_{'SET' if isinstance(value, (set, frozenset)) else 'LIST'}")
    raise TypeError(f"no feature type fits {value!r}")


_INFERRED: tuple[tuple[type, ValueType], ...] = (
    (int, ValueType.INT64),
    (float, ValueType.DOUBLE),
    (str, ValueType.STRING),
    (bytes, ValueType.BYTES),
    (datetime, ValueType.UNIX_TIMESTAMP),
    (uuid.UUID, ValueType.UUID),
    (Decimal, ValueType.DECIMAL),
)


def _scalar_entry(key: Any, value: Any) -> bytes:
    if isinstance(key, bool):
        encoded = b"\x28" + varint(int(key))
    elif isinstance(key, int):
        encoded = b"\x10" + varint(key)
    elif isinstance(key, float):
        encoded = b"\x21" + struct.pack("<d", key)
    elif isinstance(key, uuid.UUID):
        encoded = b"\x42" + _sized(str(key).encode())
    elif isinstance(key, Decimal):
        encoded = b"\x52" + _sized(str(key).encode())
    elif isinstance(key, bytes):
        encoded = b"\x3a" + _sized(key)
    elif isinstance(key, datetime):
        encoded = b"\x30" + varint(_seconds(key))
    else:
        raise TypeError(f"a scalar map cannot have the key {key!r}")
    return b"\x0a" + _sized(encoded) + b"\x12" + _sized(_inferred(value))


def _zoned(value: Any) -> bytes:
    if not isinstance(value, datetime):
        raise TypeError(f"expected a time with a zone, found {value!r}")
    zone = value.tzinfo
    name = "" if zone is None else str(getattr(zone, "key", None) or zone)
    seconds = _seconds(value)
    return (b"\x08" + varint(seconds) if seconds else b"") + (b"\x12" + _sized(name.encode()) if name else b"")


def _tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def _sized(content: bytes) -> bytes:
    return varint(len(content)) + content


def _whole(value: Any, bits: int) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise TypeError(f"{value!r} is no whole number")
    number = int(value)
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise ValueError(f"{number} does not fit {bits} bits")
    return number


def _seconds(value: Any) -> int:
    if isinstance(value, datetime):
        return int((value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp())
    return NULL_TIMESTAMP if value is None else _whole(value, 64)


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise TypeError(f"{value!r} is no flag")
    return bool(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected bytes, found {value!r}")
    return bytes(value)


def _string(type: ValueType, value: Any) -> bytes:
    allowed = {
        ValueType.STRING: (str,),
        ValueType.DECIMAL: (str, Decimal),
    }.get(type, (str, uuid.UUID))
    if not isinstance(value, allowed):
        raise TypeError(f"expected {type}, found {value!r}")
    return str(value).encode()


def _json_text(value: Any) -> bytes:
    if isinstance(value, str):
        json.loads(value)
        return value.encode()
    return json.dumps(value).encode()
