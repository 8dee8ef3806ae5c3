"""Values of declared features become the columns that models and request-time features take, whoever read them.

Training joins them, serving reads them from Redis, the gate ranks by them, Feast hands them over in frames: a model must
see the same numbers each time, so there is one conversion.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.errors import CorruptData

_NAN = float("nan")
_NUMBER = (int, float, np.integer, np.floating, np.bool_)


def feature_column(
    name: str, dtype: DType, values: Sequence[Any] | npt.NDArray[Any] | pa.Array, *, length: int = EMBEDDING_LENGTH
) -> npt.NDArray[Any]:
    """Return a feature's values as a column, in their order; a missing value is None or an Arrow null.

    Numbers and flags become float64 with NaN (whole numbers beyond 2**53 their nearest), texts and lists objects with None, vectors
    (n, length) float32 with a row of NaN.

    >>> feature_column("views_10m", DType.INT64, [3, None]).tolist()
    [3.0, nan]

    Raises:
        CorruptData: names the feature and the row of what is no number, or no vector of that length.
    """
    if dtype is DType.STRING:
        return _texts(values)
    if dtype is DType.EMBEDDING:
        return _vectors(name, values, length)
    if not dtype.is_scalar:
        return _lists(values)
    return _numbers(name, values)


def number_block(columns: Iterable[Iterable[float | None]]) -> npt.NDArray[np.float64]:
    """Return columns of numbers and flags, each as `feature_column` gives it, as one block of a row per column."""
    return np.array([[_NAN if value is None else value for value in values] for values in columns], np.float64)


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    if isinstance(values, pa.Array):
        kind = values.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            counted = values.cast(pa.int8()) if pa.types.is_boolean(kind) else values
            numbers: npt.NDArray[np.float64] = counted.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
            return numbers
        values = values.to_pylist()
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, _NUMBER):
            raise CorruptData(f"feature {name}, row {row}: {value!r} is no number")
    column: npt.NDArray[np.float64] = number_block([values])[0]
    return column


def _texts(values: Any) -> npt.NDArray[np.object_]:
    listed = values.to_pylist() if isinstance(values, pa.Array) else values
    column = np.empty(len(listed), dtype=object)
    column[:] = listed
    return column


def _lists(values: Any) -> npt.NDArray[np.object_]:
    listed = values.to_pylist() if isinstance(values, pa.Array) else values
    column = np.empty(len(listed), dtype=object)
    for row, value in enumerate(listed):
        if value is not None:
            column[row] = value.tolist() if isinstance(value, np.ndarray) else list(value)
    return column


def _vectors(name: str, values: Any, length: int) -> npt.NDArray[np.float32]:
    if isinstance(values, np.ndarray) and values.ndim == 2:
        if values.shape[1] != length:
            raise _other_length(name, 0, values.shape[1], length)
        return values.astype(np.float32)
    column = np.full((len(values), length), np.nan, dtype=np.float32)
    if isinstance(values, pa.Array):
        lengths = pc.list_value_length(values)
        wrong = pc.fill_null(pc.not_equal(lengths, length), False).to_numpy(zero_copy_only=False)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise _other_length(name, row, lengths[row].as_py(), length)
        present = values.is_valid().to_numpy(zero_copy_only=False)
        if present.any():
            column[present] = np.asarray(values.flatten(), dtype=np.float32).reshape(-1, length)
        return column
    for row, value in enumerate(values):
        if value is None:
            continue
        if len(value) != length:
            raise _other_length(name, row, len(value), length)
        column[row] = value
    return column


def _other_length(name: str, row: int, found: int, length: int) -> CorruptData:
    return CorruptData(f"feature {name}, row {row}: a vector of {found} numbers; expected {length}")
