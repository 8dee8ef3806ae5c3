"""Sum, mean, standard deviation, least and greatest: exact rationals, rounded once to float64.

Numbers are summed as integers over a common power of two, so neither the order of events nor the place where a window
was cut can change a bit; and a mean never leaves the range of its values.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from stillpoint.dtypes import NUMERIC, SCALAR, DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries, pack_integer, unpack_integer

Moments = tuple[int, ...]
"""The binary shift, then sums of powers: of x⁰, x¹, x² … scaled by 2 to the power of shift × exponent."""


def _same_shift(one: Moments, shift: int) -> Moments:
    up = shift - one[0]
    if not up:
        return one
    return (shift, *(value << (up * power) for power, value in enumerate(one[1:])))


class _Moments(Aggregation[Moments]):
    """Keeps exact sums of the values' powers up to `powers`."""

    __slots__ = ()
    powers: ClassVar[int]
    takes: ClassVar[frozenset[Kind] | None] = NUMERIC

    def summary(self, entries: Entries, first: int, end: int) -> Moments:
        integers, shift = entries.exact()
        chosen = integers[first:end]
        total = sum(chosen)
        if self.powers == 1:
            return shift, end - first, total
        return shift, end - first, total, sum(x * x for x in chosen)

    def join(self, older: Moments, newer: Moments) -> Moments:
        shift = max(older[0], newer[0])
        older, newer = _same_shift(older, shift), _same_shift(newer, shift)
        return (shift, *(a + b for a, b in zip(older[1:], newer[1:], strict=True)))

    def join_all(self, summaries: list[Moments]) -> Moments:
        shift = max(one[0] for one in summaries)
        return (shift, *map(sum, zip(*(_same_shift(one, shift)[1:] for one in summaries), strict=True)))

    def pack(self, summary: Moments) -> Any:
        """Pack over the smallest shift that loses nothing, so that equal sums give equal bytes."""
        shift, *sums = summary
        down = shift
        for power, value in enumerate(sums):
            if power and value:
                down = min(down, ((value & -value).bit_length() - 1) // power)
        return [shift - down, *(pack_integer(value >> (down * power)) for power, value in enumerate(sums))]

    def unpack(self, packed: Any) -> Moments:
        return tuple(map(unpack_integer, packed))


@dataclass(frozen=True, slots=True)
class Sum(_Moments):
    """The sum; null without a value unless declared otherwise."""

    name = "sum"
    powers = 1

    def for_kind(self, kind: Kind | None) -> Aggregation[Any]:
        return IntegerSum() if kind is Kind.INTEGER else self

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def value(self, whole: Moments | None, newer: Moments | None, at_us: int) -> float | None:
        if whole is None:
            return None
        return whole[2] / (1 << whole[0])

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return (0 if minimum is not None and minimum >= 0 else None), (0 if maximum == 0 else None)


@dataclass(frozen=True, slots=True)
class IntegerSum(Sum):
    """The sum of integers, as an integer."""

    def dtype(self, kind: Kind | None) -> DType:
        return DType.INT64

    def value(self, whole: Moments | None, newer: Moments | None, at_us: int) -> int | None:
        return None if whole is None else whole[2]


@dataclass(frozen=True, slots=True)
class Mean(_Moments):
    """The mean; null without a value."""

    name = "mean"
    powers = 1

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def value(self, whole: Moments | None, newer: Moments | None, at_us: int) -> float | None:
        return None if whole is None else whole[2] / (whole[1] << whole[0])

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return minimum, maximum


@dataclass(frozen=True, slots=True)
class StandardDeviation(_Moments):
    """The standard deviation of the values themselves (divided by their number); null without a value."""

    name = "standard_deviation"
    powers = 2

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def value(self, whole: Moments | None, newer: Moments | None, at_us: int) -> float | None:
        if whole is None:
            return None
        shift, count, total, squares = whole
        return math.sqrt((count * squares - total * total) / (count * count << 2 * shift))

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return 0, None


class _Extreme(Aggregation[float]):
    """Keeps the value that wins. Older winners matter only while they beat all newer ones."""

    __slots__ = ()
    takes: ClassVar[frozenset[Kind] | None] = NUMERIC

    def dtype(self, kind: Kind | None) -> DType:
        return SCALAR[kind] if kind is not None else DType.FLOAT64

    def value(self, whole: float | None, newer: float | None, at_us: int) -> float | None:
        return whole

    def compact(self, tiles: list[tuple[int, float]]) -> list[tuple[int, float]]:
        kept: list[tuple[int, float]] = []
        for step, value in reversed(tiles):
            if not kept or self.join(value, kept[-1][1]) != kept[-1][1]:
                kept.append((step, value))
        return kept[::-1]

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return minimum, maximum


@dataclass(frozen=True, slots=True)
class Minimum(_Extreme):
    """The least value; null without one."""

    name = "minimum"

    def summary(self, entries: Entries, first: int, end: int) -> float:
        return min(entries.values[first:end])  # type: ignore[no-any-return]

    def join(self, older: float, newer: float) -> float:
        return min(older, newer)


@dataclass(frozen=True, slots=True)
class Maximum(_Extreme):
    """The greatest value; null without one."""

    name = "maximum"

    def summary(self, entries: Entries, first: int, end: int) -> float:
        return max(entries.values[first:end])  # type: ignore[no-any-return]

    def join(self, older: float, newer: float) -> float:
        return max(older, newer)
