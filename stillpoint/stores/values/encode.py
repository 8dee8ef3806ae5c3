"""Encodes one Python value as Feast's bytes, without Feast and without protobuf.

`values/columns.py` encodes whole columns of the common types, to the same bytes.
"""

import json
import math
import struct
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from stillpoint.stores.values.types import ELEMENT_CODES, FIELD_NUMBERS, NULL_TIMESTAMP, ValueType, element_type


def encode_value(type: ValueType, value: Any) -> bytes:
    """Return the stored bytes of a Python value of a declared type.

    None is null; so are NaN, NaT and pandas's NA, except for collections. A value is stored exactly or refused, with two
    exceptions: a FLOAT is rounded to the nearest Float32, and a time is cut to whole seconds, as in Feast's format.

    >>> encode_value(ValueType.INT64, 7)
    b' \\x07'
    >>> encode_value(ValueType.INT64, 7.5)
    Traceback (most recent call last):
    TypeError: 7.5 is no whole number

    Raises:
        TypeError, ValueError, OverflowError: the value does not fit the type; the caller knows view, feature and entity.
    """
    if is_missing(value):
        return b""
    number = FIELD_NUMBERS[type]
    if type in (ValueType.INT32, ValueType.INT64):
        return _tag(number, 0) + varint(_whole(value, 32 if type is ValueType.INT32 else 64))
    if type in (ValueType.DOUBLE, ValueType.FLOAT):
        return _tag(number, 1 if type is ValueType.DOUBLE else 5) + struct.pack(
            ELEMENT_CODES[type], _float(type, value)
        )
    if type is ValueType.BOOL:
        return _tag(number, 0) + (b"\x01" if _flag(value) else b"\x00")
    if type is ValueType.UNIX_TIMESTAMP:
        return _tag(number, 0) + varint(_seconds(value))
    return _tag(number, 2) + _sized(_content(type, value))


def is_missing(value: Any) -> bool:
    """Return whether a value is a form of null: None, NaN, or pandas's NaT and NA."""
    if value is None:
        return True
    kind = type(value)
    if kind is str or kind is int:
        return False
    if kind in (list, dict, tuple, set) or hasattr(value, "__len__"):
        return False
    return kind.__name__ == "NAType" or bool(value != value)


def varint(value: int) -> bytes:
    """Return the protobuf varint of an integer; negative integers take ten bytes."""
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
    if isinstance(values, str | bytes | Mapping):
        raise TypeError(f"expected a list, found {values!r}")
    code = ELEMENT_CODES.get(element)
    items = values.tolist() if hasattr(values, "tolist") else list(values)
    if code == "<d" or code == "<f":
        items = [math.nan if is_missing(item) else item for item in items]
    elif element != "UNIX_TIMESTAMP" and any(is_missing(item) for item in items):
        raise TypeError(f"item {[is_missing(item) for item in items].index(True)} of the list is null; {NO_NULLS}")
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
        packed = struct.pack(f"<{len(items)}{code[1]}", *(_float(ValueType(element), item) for item in items))
    return b"\x0a" + _sized(packed)


NO_NULLS = "Feast's lists hold none but among floats (as NaN) and times: leave out the item or the whole list"


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
        TypeError: no Feast type fits it.
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
    plain = value.item() if hasattr(value, "item") else value
    if not isinstance(plain, int | float | Decimal):
        raise TypeError(f"{value!r} is no whole number")
    number = int(plain)
    if number != plain:
        raise TypeError(f"{value!r} is no whole number")
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise ValueError(f"{number} does not fit {bits} bits")
    return number


def _float(type: ValueType, value: Any) -> float:
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float):
        return plain
    if not isinstance(plain, int | Decimal):
        raise TypeError(f"{value!r} is no number")
    number = float(plain)
    kept = Decimal(str(number)) == plain if isinstance(plain, Decimal) else number == plain
    if not kept and type is not ValueType.FLOAT:
        raise ValueError(f"{value!r} cannot be kept exactly as a Float64")
    return number


def _seconds(value: Any) -> int:
    if is_missing(value):
        return NULL_TIMESTAMP
    if isinstance(value, datetime):
        since = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH
        return since.days * 86_400 + since.seconds
    if isinstance(value, date):
        return (value - _EPOCH.date()).days * 86_400
    if type(value).__name__ == "datetime64":
        return int(value.astype("datetime64[s]").astype("int64"))
    return _whole(value, 64)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _flag(value: Any) -> bool:
    if not isinstance(value, str) and value in (0, 1):
        return bool(value)
    raise TypeError(f"{value!r} is no flag")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"expected bytes, found {value!r}")
    return bytes(value)


def _string(type: ValueType, value: Any) -> bytes:
    allowed = {
        ValueType.STRING: (str, uuid.UUID, date),
        ValueType.DECIMAL: (str, Decimal),
    }.get(type, (str, uuid.UUID))
    if not isinstance(value, allowed) or isinstance(value, datetime):
        raise TypeError(f"expected {type}, found {value!r}")
    return str(value).encode()


def _json_text(value: Any) -> bytes:
    if isinstance(value, str):
        json.loads(value)
        return value.encode()
    return json.dumps(value).encode()
