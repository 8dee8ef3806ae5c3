"""The metrics of Feast's monitoring of one feature's stored values: nulls, moments, quantiles, histogram.

The numbers are equal to stock Feast's, by the same Arrow functions. Inputs on which stock fails are handled: statistics
ignore NaN and infinities, a range too narrow for its bins gets one bin, a range beyond a float's gets no histogram, and
bytes count as text.
"""

from collections.abc import Mapping
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

QUANTILES = (0.50, 0.75, 0.90, 0.95, 0.99)

Kind = Literal["numeric", "categorical"]


class Count(TypedDict):
    """A value and its frequency."""

    value: str | bool | int | float
    count: int


class NumericHistogram(TypedDict):
    """Counts between neighbouring edges; `bins` has one edge more than `counts`."""

    bins: list[float]
    counts: list[int]
    bin_width: float


class CategoricalHistogram(TypedDict):
    """The most frequent values, how many rows hold other values, and how many different values there are."""

    values: list[Count]
    other_count: int
    unique_count: int


class Metric(TypedDict):
    """One feature's metrics, in the form that Feast stores and shows."""

    feature_name: str
    feature_type: Kind
    row_count: int
    null_count: int
    null_rate: float
    mean: float | None
    stddev: float | None
    min_val: float | None
    max_val: float | None
    p50: float | None
    p75: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    histogram: NumericHistogram | CategoricalHistogram | None


def countable(kind: Kind, stored: pa.DataType) -> bool:
    """Return whether a column of a stored type has metrics of a kind. Lists, maps and structs have none."""
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    number = pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_decimal(stored)
    if kind == "numeric":
        return bool(number or pa.types.is_boolean(stored) or pa.types.is_null(stored))
    return not pa.types.is_nested(stored)


def metric(name: str, kind: Kind, column: pa.ChunkedArray, *, bins: int, top: int) -> Metric:
    """Return a feature's metrics. Quantiles are linear between neighbours; the deviation is a sample's."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    valid = column.drop_null()
    found: Metric = {
        "feature_name": name,
        "feature_type": kind,
        "row_count": len(column),
        "null_count": column.null_count,
        "null_rate": column.null_count / len(column) if len(column) else 0.0,
        "mean": None,
        "stddev": None,
        "min_val": None,
        "max_val": None,
        "p50": None,
        "p75": None,
        "p90": None,
        "p95": None,
        "p99": None,
        "histogram": None,
    }
    if not len(valid):
        return found
    if kind == "categorical":
        found["histogram"] = _frequent(valid, top)
        return found
    numbers = _finite(valid)
    if len(numbers):
        _describe(found, numbers, bins)
    return found


def _describe(found: Metric, numbers: pa.ChunkedArray, bins: int) -> None:
    ends = pc.min_max(numbers).as_py()
    found["mean"], found["stddev"] = _float(pc.mean(numbers)), _float(pc.stddev(numbers, ddof=1))
    found["min_val"], found["max_val"] = ends["min"], ends["max"]
    quantiles = [_float(value) for value in pc.quantile(numbers, q=list(QUANTILES))]
    found["p50"], found["p75"], found["p90"], found["p95"], found["p99"] = quantiles
    found["histogram"] = _histogram(numbers.to_numpy(), bins, ends)


def _finite(valid: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values as floats, nearest where a whole number has no float of its own; NaN and infinities are left out."""
    if pa.types.is_boolean(valid.type):
        valid = valid.cast(pa.int8())
    if pa.types.is_decimal(valid.type):
        valid = valid.cast(pa.string()).cast(pa.float64())  # Arrow's own cast of decimals misses the nearest float
    numbers = pa.chunked_array([valid.to_numpy().astype(np.float64)])
    return numbers.filter(pc.is_finite(numbers))


def _histogram(numbers: np.ndarray, bins: int, ends: Mapping[str, float]) -> NumericHistogram | None:
    """Count between equal edges; None if the range itself is more than a float holds."""
    if not np.isfinite(ends["max"] - ends["min"]):
        return None
    try:
        counts, edges = np.histogram(numbers, bins=bins)
    except ValueError:
        # numpy cannot divide the range into so many bins of finite size.
        counts, edges = np.array([len(numbers)]), np.array([ends["min"], ends["max"]])
    return {"bins": edges.tolist(), "counts": counts.tolist(), "bin_width": float(edges[1] - edges[0])}


def _frequent(valid: pa.ChunkedArray, top: int) -> CategoricalHistogram:
    counted = pc.value_counts(valid)
    entries: list[Count] = [
        {"value": _plain(value), "count": count}
        for value, count in zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    ]
    entries.sort(key=lambda entry: entry["count"], reverse=True)
    return {
        "values": entries[:top],
        "other_count": sum(entry["count"] for entry in entries[top:]),
        "unique_count": len(entries),
    }


def _plain(value: object) -> str | bool | int | float:
    """Return a value that JSON can hold."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value if isinstance(value, str | bool | int | float) else str(value)


def _float(found: pa.Scalar) -> float | None:
    value = found.as_py()
    return value if value is not None and np.isfinite(value) else None
