"""Decodes a few values of one type, for which numpy's fixed costs (`columns.py`) would dominate.

One entity's features are tens of values of each type. Whole numbers are looked up by their bytes, floats are read as one
record array, texts are sliced. The result is the same as that of decoding each value alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from stillpoint.errors import CorruptData
from stillpoint.stores.values.python import decode_value
from stillpoint.stores.values.types import FIELD_NUMBERS, ValueType

FEW = 512
"""Up to this many values, this module is quicker than a numpy block."""

KEPT = 16_384
"""Number of short integers cached by their bytes, per type (about 2 MB each)."""
_LONGEST_KEPT = 5
KNOWN: dict[ValueType, dict[bytes | None, Any]] = {ValueType.INT64: {}, ValueType.INT32: {}, ValueType.BOOL: {}}


def decode_few(type: ValueType, stored: Sequence[bytes | None]) -> list[Any]:
    """Return the Python values of stored bytes, None where null.

    Raises:
        CorruptData: some bytes are not a value of this type. The caller finds which, one by one.
    """
    return _DECODERS[type](stored)


def _whole(type: ValueType, stored: Sequence[bytes | None]) -> list[Any]:
    """Decode whole numbers and flags; short ones are cached by their bytes, so small counts cost one look-up."""
    known = KNOWN[type]
    values = list(map(known.get, stored))
    if None in values:
        for place, data in enumerate(stored):
            if values[place] is None and data:
                value = values[place] = _number(type, data)
                if len(data) <= _LONGEST_KEPT and len(known) < KEPT:
                    known[data] = value
    return values


def _number(type: ValueType, data: bytes) -> Any:
    size = len(data) - 1
    if data[0] != FIELD_NUMBERS[type] << 3 or not 0 < size < 11:
        raise CorruptData(f"not a serialized {type}")
    value = 0
    for place, byte in enumerate(data[1:]):
        if (byte >= 0x80) is (place == size - 1):
            raise CorruptData(f"not a serialized {type}")
        value |= (byte & 0x7F) << 7 * place
    if type is ValueType.BOOL:
        return value != 0
    bits = 32 if type is ValueType.INT32 else 64
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> bits - 1 else value


def _floats(type: ValueType, record: np.dtype[Any], stored: Sequence[bytes | None]) -> list[Any]:
    present = list(filter(None, stored))
    width = record.itemsize
    joined = b"".join(present)
    tag = FIELD_NUMBERS[type] << 3 | (1 if width == 9 else 5)
    if not present:
        return [None] * len(stored)
    if set(map(len, present)) != {width} or joined[::width].count(tag) != len(present):
        raise CorruptData(f"not a serialized {type}")
    values: list[Any] = np.frombuffer(joined, record)["value"].tolist()
    if len(present) == len(stored):
        return values
    left = iter(values)
    return [next(left) if data else None for data in stored]


def _texts(stored: Sequence[bytes | None]) -> list[Any]:
    return [_text(data) if data else None for data in stored]


def _text(data: bytes) -> Any:
    if data[0] != 0x12:
        raise CorruptData(f"not a serialized {ValueType.STRING}")
    if len(data) > 1 and data[1] == len(data) - 2 < 0x80:
        return data[2:].decode()
    return decode_value(data)


_DECODERS: dict[ValueType, Callable[[Sequence[bytes | None]], list[Any]]] = {
    ValueType.INT64: partial(_whole, ValueType.INT64),
    ValueType.INT32: partial(_whole, ValueType.INT32),
    ValueType.BOOL: partial(_whole, ValueType.BOOL),
    ValueType.DOUBLE: partial(_floats, ValueType.DOUBLE, np.dtype([("tag", "u1"), ("value", "<f8")])),
    ValueType.FLOAT: partial(_floats, ValueType.FLOAT, np.dtype([("tag", "u1"), ("value", "<f4")])),
    ValueType.STRING: _texts,
}
QUICK = frozenset(_DECODERS)
"""The types that `decode_few` knows."""
