"""Converts numbers and flags between types exactly; values that the wanted type cannot hold are marked and become null."""

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

Bools = npt.NDArray[np.bool_]
Converted = tuple[pa.Array, Bools]
"""Converted values, and a mask of those that did not fit (these are null)."""


def is_number(kind: pa.DataType) -> bool:
    """Say whether a type holds numbers or flags."""
    return bool(pt.is_boolean(kind) or pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind))


def nulls_of(array: pa.Array) -> Bools:
    """Return which values are null."""
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)


def as_numbers(array: pa.Array, wanted: pa.DataType, *, nearest: bool) -> Converted:
    """Convert numbers or flags to another number type. NaN becomes null unless the wanted type is a float.

    `nearest` rounds a decimal or float to the nearest float of the wanted type; without it such a value does not fit.
    """
    if pt.is_boolean(array.type):
        return as_numbers(array.cast(pa.uint8()), wanted, nearest=nearest)
    if array.type == wanted:
        return array, np.zeros(len(array), dtype=np.bool_)
    if pt.is_floating(array.type) and not pt.is_floating(wanted):
        array = pa.array(_plain(array), type=array.type, mask=nulls_of(array) | np.isnan(_plain(array)))
    if pt.is_boolean(wanted):
        whole, wrong = as_numbers(array, pa.int64(), nearest=False)
        flags = _plain(whole)
        wrong = wrong | (flags != 0) & (flags != 1)
        return pa.array(flags == 1, mask=nulls_of(array) | wrong), wrong
    if pt.is_decimal(array.type):
        return _from_decimals(array, wanted, nearest)
    if pt.is_decimal(wanted):
        return _by_value(_as_decimals(array), wanted)
    numbers, gone = _plain(array), nulls_of(array)
    made, wrong = _as_floats(numbers, wanted, nearest) if pt.is_floating(wanted) else _as_whole(numbers, wanted)
    wrong &= ~gone
    return pa.array(made, type=wanted, mask=gone | wrong), wrong


def _plain(array: pa.Array) -> npt.NDArray[Any]:
    """Return numbers as numpy has them, 0 where null."""
    gone = nulls_of(array)
    if not gone.any():
        return np.asarray(array.to_numpy(zero_copy_only=False))
    zero = pa.scalar(np.float16(0)) if array.type == pa.float16() else pa.scalar(0, array.type)
    return np.asarray(pc.if_else(pa.array(gone), zero, array).to_numpy(zero_copy_only=False))


def _numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return found


def _as_whole(numbers: npt.NDArray[Any], wanted: pa.DataType) -> tuple[npt.NDArray[Any], Bools]:
    target = _numpy_type(wanted)
    bounds = np.iinfo(target)
    if numbers.dtype.kind == "f":
        wide = numbers.astype(np.float64)
        # Both limits are powers of two (or 0), so floats hold them exactly.
        fine = (wide >= float(bounds.min)) & (wide < float(int(bounds.max) + 1)) & (wide == np.floor(wide))
    else:
        fine = (numbers >= int(bounds.min)) & (numbers <= int(bounds.max))
    return np.where(fine, numbers, 0).astype(target), ~fine


def _as_floats(numbers: npt.NDArray[Any], wanted: pa.DataType, nearest: bool) -> tuple[npt.NDArray[Any], Bools]:
    with np.errstate(over="ignore", invalid="ignore"):
        made = numbers.astype(_numpy_type(wanted))
        if numbers.dtype.kind == "f":
            kept = np.isfinite(made) | ~np.isfinite(numbers) if nearest else (made == numbers) | np.isnan(numbers)
            return made, ~kept
        wide = made.astype(np.float64)
        within = (wide >= float(np.iinfo(numbers.dtype).min)) & (wide < float(int(np.iinfo(numbers.dtype).max) + 1))
        back = np.where(within, wide, 0).astype(numbers.dtype)
    return made, ~(within & (back == numbers))


def _from_decimals(array: pa.Array, wanted: pa.DataType, nearest: bool) -> Converted:
    if not pt.is_floating(wanted):
        try:
            return array.cast(wanted), np.zeros(len(array), dtype=np.bool_)
        except pa.ArrowInvalid:
            return _by_value(array.to_pylist(), wanted)
    values: list[Decimal | None] = array.to_pylist()
    made = np.array([0 if value is None else value for value in values], dtype=_numpy_type(wanted))
    pairs = zip(values, made, strict=True)
    kept = [value is None or bool(np.isfinite(one) and (nearest or _shortest(one) == value)) for value, one in pairs]
    wrong = ~np.array(kept, dtype=np.bool_)
    return pa.array(made, type=wanted, mask=nulls_of(array) | wrong), wrong


def _as_decimals(array: pa.Array) -> list[Decimal | None]:
    shown: Callable[[Any], Decimal] = _shortest if pt.is_floating(array.type) else lambda value: Decimal(int(value))
    return [None if gone else shown(value) for value, gone in zip(_plain(array), nulls_of(array), strict=True)]


def _shortest(value: Any) -> Decimal:
    """Return a float's shortest decimal that reads back as it: 0.1, not 0.1000000000000000055."""
    return Decimal(str(value))


def _by_value(values: Sequence[Decimal | None], wanted: pa.DataType) -> Converted:
    """Convert value by value; only decimals come here."""
    made: list[Any] = []
    wrong = np.zeros(len(values), dtype=np.bool_)
    for row, value in enumerate(values):
        found = None
        if value is not None:
            try:
                found = pa.scalar(int(value) if pt.is_integer(wanted) else value, wanted).as_py()
            except (pa.ArrowInvalid, InvalidOperation, OverflowError, ValueError):
                found = None
            wrong[row] = found != value
        made.append(None if wrong[row] else found)
    return pa.array(made, type=wanted), wrong
