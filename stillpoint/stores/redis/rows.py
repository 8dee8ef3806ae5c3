"""Encodes an Arrow table as the bytes of Redis commands, without a Python object per value.

Each column becomes an Arrow array of Redis bulk strings (`$<length>\r\n<bytes>\r\n`), by numpy for numbers and by Arrow's
kernels for text; one join combines them to rows. Consecutive rows are adjacent in one buffer, so a command is a slice of
it. Rare types are encoded value by value by `values/columns.py` and `redis/keys.py`, to the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.errors import InvalidInput
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import ENTITYLESS_KEY, Column, ViewLayout, encode_created, key_prefix
from stillpoint.stores.redis.wrong_value import wrong_value
from stillpoint.stores.values.columns import encode_column
from stillpoint.stores.values.encode import varint
from stillpoint.stores.values.times import encode_time
from stillpoint.stores.values.types import FIELD_NUMBERS, KEY_TYPES, ValueType

Block = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

_END = pa.scalar(b"\r\n", pa.binary())
_LONGEST = 4096
_WIRE = {ValueType.DOUBLE: 1, ValueType.FLOAT: 5, ValueType.STRING: 2, ValueType.BYTES: 2}


@dataclass(frozen=True, slots=True)
class BulkRows:
    """Rows of one view: Redis keys, the keys as bulk strings, and event time, created time and features as bulk strings."""

    keys: pa.BinaryArray
    key_bulks: pa.BinaryArray
    bodies: pa.BinaryArray

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> bytes:
        return bytes(self.keys[row].as_py())

    def sizes(self) -> Ints:
        sizes: Ints = np.diff(_offsets(self.bodies)).astype(np.int64)
        return sizes

    def ordered(self, order: Ints) -> "BulkRows":
        places = pa.array(order)
        return BulkRows(self.keys.take(places), self.key_bulks.take(places), self.bodies.take(places))

    def parts(self, first: int, end: int) -> tuple[Any, Any]:
        return _slice(self.key_bulks, first, end), _slice(self.bodies, first, end)


def bulk_rows(
    layout: ViewLayout, table: Any, project: str, event_us: pa.Int64Array, created_us: pa.Int64Array | None
) -> BulkRows:
    """Encode a table that has every column of the view; times in microseconds since 1970, created null where unknown.

    Raises:
        InvalidInput: a join key is null or of the wrong type, or a value does not fit its type; names it.
    """
    keys = key_column(layout, table, project)
    events = time_column(event_us)
    columns = [_bulk(events), _bulk(created_column(created_us, event_us, events))]
    for column in layout.features:
        try:
            columns.append(bulk_column(column.type, table.column(column.name)))
        except InvalidInput:
            raise wrong_value(layout, column, table, project) from None
    return BulkRows(keys, _joined(_bulk(keys)), _joined([part for column in columns for part in column]))


def bulk_column(type: ValueType, column: Any) -> list[Any]:
    """Return parts (arrays or scalars) that, joined row by row, are the bulk strings of a feature's values."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if type in (ValueType.DOUBLE, ValueType.FLOAT) and array.type == _FLOATS[type]:
        return [_floats(type, array)]
    if type in _INTS and array.type == _INTS[type]:
        return _integers(type, array)
    if type is ValueType.BOOL and array.type == pa.bool_():
        return [_bools(array)]
    if type in _TEXTS and array.type == _TEXTS[type]:
        texts = _texts(type, array)
        if texts is not None:
            return texts
    return _bulk(pa.array(encode_column(type, array), pa.binary()))


_FLOATS = {ValueType.DOUBLE: pa.float64(), ValueType.FLOAT: pa.float32()}
_INTS = {ValueType.INT32: pa.int32(), ValueType.INT64: pa.int64()}
_TEXTS = {ValueType.STRING: pa.string(), ValueType.BYTES: pa.binary()}


def _floats(type: ValueType, array: Any) -> pa.BinaryArray:
    width = 8 if type is ValueType.DOUBLE else 4
    head = b"$%d\r\n%c" % (width + 1, FIELD_NUMBERS[type] << 3 | _WIRE[type])
    values = array.fill_null(float("nan")).to_numpy(zero_copy_only=False)
    block = np.empty((len(values), len(head) + width + 2), np.uint8)
    block[:, : len(head)] = np.frombuffer(head, np.uint8)
    block[:, len(head) : -2] = _bytes_of(values.astype(f"<f{width}"))
    block[:, -2:] = (13, 10)
    missing = np.isnan(values)
    lengths = np.full(len(values), block.shape[1], np.int64)
    if missing.any():
        block[missing, :6] = np.frombuffer(b"$0\r\n\r\n", np.uint8)
        lengths[missing] = 6
    return _ragged(block, lengths)


def _integers(type: ValueType, array: Any) -> list[Any]:
    digits, lengths = _varints(array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = 0
    heads = _heads(bytes([FIELD_NUMBERS[type] << 3]), False)
    return [heads.take(pa.array(lengths)), _ragged(digits, lengths), _END]


def _bools(array: Any) -> pa.BinaryArray:
    tag = FIELD_NUMBERS[ValueType.BOOL] << 3
    table = pa.array([b"$2\r\n%c\x00\r\n" % tag, b"$2\r\n%c\x01\r\n" % tag, b"$0\r\n\r\n"], pa.binary())
    return table.take(array.cast(pa.int8()).fill_null(2))


def _texts(type: ValueType, array: Any) -> list[Any] | None:
    lengths = pc.binary_length(array)
    if (pc.max(lengths).as_py() or 0) > _LONGEST:
        return None
    places = pc.add(lengths, 1).fill_null(0)
    heads = _heads(bytes([FIELD_NUMBERS[type] << 3 | 2]), True)
    return [heads.take(places), array.cast(pa.binary()).fill_null(b""), _END]


@cache
def _heads(tag: bytes, sized: bool) -> pa.BinaryArray:
    """Return the bytes before a value, indexed by its length, or if `sized` by its length plus one (0 is null)."""
    if not sized:
        return pa.array([b"$0\r\n", *(b"$%d\r\n%b" % (1 + size, tag) for size in range(1, 11))], pa.binary())
    heads = [b"$0\r\n"]
    for size in range(_LONGEST + 1):
        start = tag + varint(size)
        heads.append(b"$%d\r\n%b" % (len(start) + size, start))
    return pa.array(heads, pa.binary())


# --- keys and times -----------------------------------------------------------------------------------------------


def key_column(layout: ViewLayout, table: Any, project: str) -> pa.BinaryArray:
    """Return each row's Redis key.

    Raises:
        InvalidInput: a join key is null or of the wrong type; names view, join key and row.
    """
    parts: list[Any] = [pa.scalar(key_prefix([column.name for column in layout.join_keys]), pa.binary())]
    for column in layout.sorted_join_keys:
        found = _key_part(column, table.column(column.name))
        if found is None:
            return pa.array(encode_keys(layout, table, project), pa.binary())
        parts += found
    return _joined([*parts, pa.scalar(project.encode(), pa.binary())])


def _key_part(column: Column, chunked: Any) -> list[Any] | None:
    array = chunked.combine_chunks()
    if column.name == ENTITYLESS_KEY or array.null_count:
        return None
    kind = KEY_TYPES[column.type].to_bytes(4, "little") if column.type in KEY_TYPES else b""
    if column.type in _TEXTS and array.type == _TEXTS[column.type]:
        lengths = pc.binary_length(array)
        if (pc.max(lengths).as_py() or 0) > 255:
            return None
        heads = pa.array([kind + size.to_bytes(4, "little") for size in range(256)], pa.binary())
        return [heads.take(lengths), array.cast(pa.binary())]
    if column.type in _INTS and array.type == _INTS[column.type]:
        width = array.type.bit_width // 8
        values = array.to_numpy(zero_copy_only=False)
        block = _bytes_of(values.astype(f"<i{width}"))
        head = pa.scalar(kind + width.to_bytes(4, "little"), pa.binary())
        return [head, _ragged(block, np.full(len(values), width, np.int64))]
    return None


def time_column(micros: pa.Int64Array) -> pa.BinaryArray:
    """Return the value of `_ts:` for each time; none may be null."""
    block_lengths = _times(micros.to_numpy(zero_copy_only=False))
    if block_lengths is None:
        return pa.array([encode_time(value) for value in micros.to_pylist()], pa.binary())
    return _ragged(*block_lengths)


def created_column(created_us: pa.Int64Array | None, event_us: pa.Int64Array, events: pa.BinaryArray) -> pa.BinaryArray:
    """Return the value of `_cts:` for each created time with its event time; empty where the created time is null."""
    if created_us is None:
        return pa.array([b""] * len(events), pa.binary())
    if created_us.null_count:
        pairs = zip(created_us.to_pylist(), events.to_pylist(), strict=True)
        return pa.array(
            [b"" if micros is None else encode_created(micros, event) for micros, event in pairs], pa.binary()
        )
    seconds, rest = np.divmod(created_us.to_numpy(zero_copy_only=False), 1_000_000)
    block = np.empty((len(seconds), 8), np.uint8)
    block[:, :5] = _bytes_of(seconds.astype("<i8"))[:, :5]
    block[:, 5:] = _bytes_of(rest.astype("<i8"))[:, :3]
    return _joined([_ragged(block, np.full(len(seconds), 8, np.int64)), events])


def _times(micros: Ints) -> tuple[Block, Ints] | None:
    """Return protobuf timestamps whose seconds take five bytes (1978 to 3058), None if any other is among them."""
    seconds, rest = np.divmod(micros, 1_000_000)
    if len(micros) and (seconds.min() < 1 << 28 or seconds.max() >= 1 << 35):
        return None
    nanos, widths = _varints(rest * 1000)
    whole, _ = _varints(seconds)
    block = np.zeros((len(micros), 12), np.uint8)
    block[:, 0] = 0x08
    block[:, 1:6] = whole[:, :5]
    block[:, 6] = 0x10
    block[:, 7:12] = nanos[:, :5]
    return block, np.where(rest == 0, 6, 7 + widths)


# --- parts --------------------------------------------------------------------------------------------------------


def _varints(values: Ints) -> tuple[Block, Ints]:
    """Return each number as a protobuf varint, padded to ten bytes, with its length."""
    left = values.view(np.uint64)
    block = np.zeros((len(values), 10), np.uint8)
    lengths = np.ones(len(values), np.int64)
    for place in range(10):
        digit = (left & np.uint64(0x7F)).astype(np.uint8)
        left = left >> np.uint64(7)
        more = left != 0
        block[:, place] = digit | (more.astype(np.uint8) << np.uint8(7))
        if not more.any():
            break
        lengths += more
    return block, lengths


def _bytes_of(values: npt.NDArray[Any]) -> Block:
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _ragged(block: Block, lengths: Ints) -> pa.BinaryArray:
    """Return the first `lengths[i]` bytes of each row i of a block."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    whole = len(lengths) > 0 and int(lengths.min()) == block.shape[1]
    data = block if whole else block[np.arange(block.shape[1]) < lengths[:, None]]
    return pa.BinaryArray.from_buffers(
        pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(data))]
    )


def _bulk(array: pa.BinaryArray) -> list[Any]:
    """Return the parts of arbitrary bytes as bulk strings."""
    lengths = pc.binary_length(array)
    longest = pc.max(lengths).as_py() or 0
    if longest <= _LONGEST:
        return [_LENGTHS.take(lengths), array, _END]
    return [pa.array([b"$%d\r\n" % size for size in lengths.to_pylist()], pa.binary()), array, _END]


_LENGTHS = pa.array([b"$%d\r\n" % size for size in range(_LONGEST + 1)], pa.binary())


def _offsets(array: pa.BinaryArray) -> npt.NDArray[np.int32]:
    """Return where each value of an array begins, and where the last one ends; the array must start at its buffer's start."""
    return np.frombuffer(array.buffers()[1], np.int32)[: len(array) + 1]


def _slice(array: pa.BinaryArray, first: int, end: int) -> memoryview:
    offsets = _offsets(array)
    return memoryview(array.buffers()[2])[offsets[first] : offsets[end]]


def _joined(parts: Sequence[Any]) -> pa.BinaryArray:
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))
