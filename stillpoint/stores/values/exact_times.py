"""Converts times between units and zones exactly; values that the wanted unit cannot hold are marked and become null."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from stillpoint.stores.values.exact_numbers import Converted, nulls_of

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY = 86_400


def is_moment(kind: pa.DataType) -> bool:
    """Say whether a type holds moments: timestamps with or without a zone, or days."""
    return bool(pt.is_timestamp(kind) or pt.is_date(kind))


def as_times(array: pa.Array, wanted: pa.DataType) -> Converted:
    """Convert moments, or whole numbers of seconds since 1970, to another unit. A time without a zone is UTC."""
    gone = nulls_of(array)
    ticks, have, want = _ticks(array, gone), _rate(array.type), _rate(wanted)
    if have == want:
        made, wrong = ticks, np.zeros(len(ticks), dtype=np.bool_)
    elif have > want:
        step = have // want
        made, wrong = ticks // step, ticks % step != 0
    else:
        step = want // have
        wrong = np.abs(ticks) > np.iinfo(np.int64).max // step
        wrong |= ticks == np.iinfo(np.int64).min
        made = np.where(wrong, 0, ticks) * step
    if pt.is_date64(wanted):
        wrong = wrong | (made % (_DAY * 1_000) != 0)
    wrong &= ~gone
    mask = gone | wrong
    if pt.is_date32(wanted):
        wrong |= (np.abs(made) > np.iinfo(np.int32).max) & ~gone
        return pa.array(np.where(wrong, 0, made).astype(np.int32), mask=gone | wrong).view(wanted), wrong
    return pa.array(made, type=pa.int64(), mask=mask).view(wanted), wrong


def utc_micros(column: pa.Array | pa.ChunkedArray) -> pa.Int64Array:
    """Return moments as microseconds since 1970, rounded down; this is the form in which all times are compared.

    Raises:
        pa.ArrowInvalid: a moment is beyond what 64 bits of microseconds hold.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pt.is_timestamp(array.type) and array.type.unit == "ns":
        gone = nulls_of(array)
        return pa.array(_ticks(array, gone) // 1_000, type=pa.int64(), mask=gone)
    made, wrong = as_times(array, pa.timestamp("us", tz="UTC"))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise pa.ArrowInvalid(f"row {row} holds {array[row]}, which is beyond what microseconds can count")
    return made.view(pa.int64())


def _ticks(array: pa.Array, gone: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    whole = array.cast(pa.int32()).cast(pa.int64()) if pt.is_date32(array.type) else array.view(pa.int64())
    return np.asarray((whole.fill_null(0) if gone.any() else whole).to_numpy(zero_copy_only=False), dtype=np.int64)


def _rate(kind: pa.DataType) -> int:
    """Return ticks per day, a whole number."""
    if pt.is_date32(kind):
        return 1
    if pt.is_date64(kind):
        return _DAY * 1_000
    return _DAY * (_PER_SECOND[kind.unit] if pt.is_timestamp(kind) else 1)
