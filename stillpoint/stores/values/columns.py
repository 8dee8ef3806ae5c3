"""Encodes and decodes many values of one type at once.

Arrow columns become lists of stored bytes; lists of stored bytes become numpy blocks. The rare types (maps, sets, JSON…)
take the path of one value at a time in `values/encode.py` and `values/python.py`, with the same result.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.errors import CorruptData, InvalidInput
from stillpoint.stores.values.encode import encode_value, varint
from stillpoint.stores.values.exact import convert, does_not_fit, is_list
from stillpoint.stores.values.times import decode_time
from stillpoint.stores.values.types import FIELD_NUMBERS, ValueType

Bools = npt.NDArray[np.bool_]

# --- encoding -------------------------------------------------------------------------------------------------------

_ARROW: dict[ValueType, Any] = {
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.BOOL: pa.bool_(),
    ValueType.STRING: pa.string(),
    ValueType.BYTES: pa.binary(),
}
_LIST_ITEMS: dict[ValueType, Any] = {ValueType.FLOAT_LIST: pa.float32(), ValueType.DOUBLE_LIST: pa.float64()}


def encode_column(type: ValueType, column: Any) -> list[bytes]:
    """Return the stored bytes of each value of an Arrow array; null, and NaN in a scalar, become empty bytes.

    Raises:
        InvalidInput: names a value that does not fit the type; the caller adds view and feature.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_null(array.type):
        return [b""] * len(array)
    try:
        if type in _ARROW:
            return _encode_scalars(type, _convert(array, _ARROW[type], nearest=type is ValueType.FLOAT))
        if type is ValueType.UNIX_TIMESTAMP:
            moments = array if pa.types.is_timestamp(array.type) else _convert(array, pa.timestamp("s", tz="UTC"))
            return _encode_scalars(type, _whole_seconds(moments))
        if type in _LIST_ITEMS and is_list(array.type):
            wanted = pa.list_(_LIST_ITEMS[type])
            return _encode_float_lists(type, _convert(array, wanted, nearest=type is ValueType.FLOAT_LIST))
        return [encode_value(type, value) for value in _python_values(array)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise InvalidInput(f"expected {type}, found {array.type}: {error}") from None


def _convert(array: pa.Array, wanted: pa.DataType, *, nearest: bool = False) -> pa.Array:
    """Convert values to another type exactly; with `nearest`, floats are rounded to the nearest Float32."""
    found = convert(array, wanted, nearest=nearest)
    if found.wrong.any():
        raise ValueError(does_not_fit(array, int(np.argmax(found.wrong)), wanted))
    return found.values


def _whole_seconds(array: Any) -> Any:
    unit = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[array.type.unit]
    ticks = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if array.null_count:
        missing = array.is_null().to_numpy(zero_copy_only=False)
        ticks = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return pa.array(ticks // unit, mask=missing)
    return pa.array(ticks // unit)


def _encode_scalars(type: ValueType, array: Any) -> list[bytes]:
    tag = bytes([FIELD_NUMBERS[type] << 3 | _WIRE[type]])
    if type in (ValueType.DOUBLE, ValueType.FLOAT):
        encoded = _fixed(tag, array.fill_null(float("nan")).to_numpy(zero_copy_only=False))
        missing = pc.fill_null(pc.is_nan(array), True).to_numpy(zero_copy_only=False)
        return (
            [b"" if gone else value for gone, value in zip(missing.tolist(), encoded, strict=True)]
            if missing.any()
            else encoded
        )
    if type is ValueType.BOOL:
        table = {True: tag + b"\x01", False: tag + b"\x00", None: b""}
        return [table[value] for value in array.to_pylist()]
    if type in (ValueType.INT32, ValueType.INT64, ValueType.UNIX_TIMESTAMP):
        return [b"" if value is None else tag + varint(value) for value in array.to_pylist()]
    if type is ValueType.STRING:
        array = array.cast(pa.binary())
    return [b"" if value is None else tag + varint(len(value)) + value for value in array.to_pylist()]


_WIRE = {
    ValueType.INT32: 0,
    ValueType.INT64: 0,
    ValueType.BOOL: 0,
    ValueType.UNIX_TIMESTAMP: 0,
    ValueType.DOUBLE: 1,
    ValueType.FLOAT: 5,
    ValueType.STRING: 2,
    ValueType.BYTES: 2,
}


def _fixed(tag: bytes, values: npt.NDArray[Any]) -> list[bytes]:
    width = values.dtype.itemsize
    block = np.empty((len(values), width + 1), np.uint8)
    block[:, 0] = tag[0]
    block[:, 1:] = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"))).view(np.uint8).reshape(-1, width)
    raw, step = block.tobytes(), width + 1
    return [raw[start : start + step] for start in range(0, len(raw), step)]


def _encode_float_lists(type: ValueType, array: Any) -> list[bytes]:
    width = 4 if type is ValueType.FLOAT_LIST else 8
    flat = array.values.fill_null(float("nan")).to_numpy(zero_copy_only=False)
    raw = np.ascontiguousarray(flat.astype(f"<f{width}")).tobytes()
    offsets = array.offsets.to_pylist()
    present = array.is_valid().to_pylist()
    tag = varint(FIELD_NUMBERS[type] << 3 | 2)
    headers: dict[int, bytes] = {0: tag + b"\x00"}
    encoded = []
    for index, valid in enumerate(present):
        if not valid:
            encoded.append(b"")
            continue
        payload = raw[offsets[index] * width : offsets[index + 1] * width]
        header = headers.get(len(payload))
        if header is None:
            inner = b"\x0a" + varint(len(payload))
            header = headers[len(payload)] = tag + varint(len(inner) + len(payload)) + inner
        encoded.append(header + payload)
    return encoded


def _python_values(array: Any) -> list[Any]:
    return [dict(value) if pa.types.is_map(array.type) and value is not None else value for value in array.to_pylist()]


# --- decoding -------------------------------------------------------------------------------------------------------

VECTORISED: dict[ValueType, Any] = {
    ValueType.INT64: np.int64,
    ValueType.INT32: np.int32,
    ValueType.DOUBLE: np.float64,
    ValueType.FLOAT: np.float32,
    ValueType.BOOL: np.bool_,
}
"""Types that decode to one numpy block."""


def decode_numbers(type: ValueType, stored: Sequence[bytes | None]) -> tuple[npt.NDArray[Any], Bools]:
    """Decode stored bytes of a scalar number type; returns values (0 where null) and which are null.

    Raises:
        CorruptData: some bytes are not a value of this type; the caller decodes one by one to find which.
    """
    filled = [value or b"" for value in stored]
    lengths = np.fromiter(map(len, filled), np.int64, len(filled))
    missing = lengths == 0
    tag = FIELD_NUMBERS[type] << 3 | _WIRE[type]
    if type in (ValueType.DOUBLE, ValueType.FLOAT):
        width = 9 if type is ValueType.DOUBLE else 5
        block = _block(filled, width)
        _demand(((lengths == width) & (block[:, 0] == tag)) | missing, type)
        return np.ascontiguousarray(block[:, 1:]).view(f"<f{width - 1}").ravel(), missing
    block = _block(filled, 16)
    longest = int(lengths.max(initial=0))
    _demand((block[:, 0] == tag) | missing, type)
    if longest > 11:
        raise CorruptData(f"not a serialized {type}")
    values = _varints(block, lengths, longest, missing, type)
    if type is ValueType.BOOL:
        return values != 0, missing
    return values.astype(VECTORISED[type]), missing


def _block(stored: Sequence[bytes], width: int) -> npt.NDArray[np.uint8]:
    return np.array(stored, dtype=f"S{width}").view(np.uint8).reshape(-1, width)


def _demand(good: Bools, type: ValueType) -> None:
    if not good.all():
        raise CorruptData(f"not a serialized {type}")


def _varints(block: npt.NDArray[np.uint8], lengths: Any, longest: int, missing: Bools, type: ValueType) -> Any:
    """Decode the varint after the tag byte of each row (rows are padded with zeros)."""
    ends = (block[:, 1 : longest + 1] < 0x80).argmax(axis=1) if longest else np.zeros(len(block), np.int64)
    _demand((ends == lengths - 2) | missing, type)
    values = np.zeros(len(block), np.uint64)
    for position in range(1, longest):
        values |= (block[:, position] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * (position - 1))
    return values.view(np.int64)


def decode_vectors(stored: Sequence[bytes | None]) -> npt.NDArray[Any] | None:
    """Decode values of the type FLOAT_LIST that all have one length into (n, length); NaN rows where null.

    Returns None if the lengths differ or some bytes are unusual; the caller then decodes one by one.
    """
    sample = next((value for value in stored if value), None)
    if sample is None:
        return None
    start = _payload_start(sample)
    head, size = sample[:start], len(sample)
    length = (size - start) // 4
    if length <= 0:
        return None
    empty = head + np.full(length, np.nan, "<f4").tobytes()
    rows = [value or empty for value in stored]
    if not all(len(row) == size and row.startswith(head) for row in rows):
        return None
    block = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), size)
    return np.ascontiguousarray(block[:, start:]).view("<f4")


def _payload_start(value: bytes) -> int:
    """Return where the packed numbers begin: after tag (2), length, inner tag (1), inner length."""
    position = 2
    for skip in (0, 1):
        position += skip
        while position < len(value) and value[position] >= 0x80:
            position += 1
        position += 1
    return position


def decode_times(stored: Sequence[bytes | None], absent: int) -> npt.NDArray[np.int64]:
    """Decode `_ts:` values to microseconds since 1970; `absent` where there is none.

    Raises:
        CorruptData: some bytes are not a timestamp.
    """
    if len(stored) > _FEW:
        times = _decode_many_times(stored, absent)
        if times is not None:
            return times
    memo: dict[bytes | None, int] = {None: absent}
    result = []
    for value in stored:
        micros = memo.get(value)
        if micros is None:
            micros = memo[value] = decode_time(value)  # type: ignore[arg-type]
        result.append(micros)
    return np.array(result, np.int64)


_FEW = 96


def _decode_many_times(stored: Sequence[bytes | None], absent: int) -> npt.NDArray[np.int64] | None:
    """Decode times whose seconds take five bytes (1978 to 3058) with numpy; None if there is any other time."""
    filled = [b"" if value is None else value for value in stored]
    lengths = np.fromiter(map(len, filled), np.int64, len(filled))
    gone = np.fromiter((value is None for value in stored), np.bool_, len(filled))
    block = _block(filled, 12)
    usual = (lengths == 6) | ((lengths > 7) & (lengths < 13) & (block[:, 6] == 0x10))
    usual &= (block[:, 0] == 0x08) & (block[:, 1:5] >= 0x80).all(axis=1) & (block[:, 5] < 0x80)
    tail = (block[:, 7:] < 0x80).argmax(axis=1) == lengths - 8
    if not (gone | usual & (tail | (lengths == 6))).all():
        return None
    wide = (block & np.uint8(0x7F)).astype(np.int64)
    seconds = wide[:, 1] | wide[:, 2] << 7 | wide[:, 3] << 14 | wide[:, 4] << 21 | wide[:, 5] << 28
    nanos = wide[:, 7] | wide[:, 8] << 7 | wide[:, 9] << 14 | wide[:, 10] << 21 | wide[:, 11] << 28
    result: npt.NDArray[np.int64] = np.where(gone, absent, seconds * 1_000_000 + nanos // 1000)
    return result
