"""Do the values rise or fall over the window? Least-squares slope, and the newer half against the older."""

from dataclasses import dataclass
from typing import Any, ClassVar

from stillpoint.dtypes import NUMERIC, DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries, pack_integer, unpack_integer
from stillpoint.features.streamed.aggregations.numbers import Moments, Sum

Line = tuple[int, int, int, int, int, int]
"""The binary shift, the number of values, and the sums of t, t², x and t·x (t in microseconds since 1970)."""


@dataclass(frozen=True, slots=True)
class Slope(Aggregation[Line]):
    """The slope of the least-squares line, per `per_us`; null with fewer than two distinct times."""

    per_us: int = 60_000_000
    name = "slope"
    takes: ClassVar[frozenset[Kind] | None] = NUMERIC

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def summary(self, entries: Entries, first: int, end: int) -> Line:
        integers, shift = entries.exact()
        times, values = entries.times[first:end], integers[first:end]
        return (
            shift,
            end - first,
            sum(times),
            sum(t * t for t in times),
            sum(values),
            sum(t * x for t, x in zip(times, values, strict=True)),
        )

    def join(self, older: Line, newer: Line) -> Line:
        shift = max(older[0], newer[0])
        a, b = shift - older[0], shift - newer[0]
        return (
            shift,
            older[1] + newer[1],
            older[2] + newer[2],
            older[3] + newer[3],
            (older[4] << a) + (newer[4] << b),
            (older[5] << a) + (newer[5] << b),
        )

    def value(self, whole: Line | None, newer: Line | None, at_us: int) -> float | None:
        if whole is None:
            return None
        shift, count, times, squares, values, products = whole
        spread = count * squares - times * times
        return (count * products - times * values) * self.per_us / (spread << shift) if spread else None

    def pack(self, summary: Line) -> Any:
        shift, count, times, squares, values, products = summary
        down = shift
        for value in (values, products):
            if value:
                down = min(down, (value & -value).bit_length() - 1)
        packed = (shift - down, count, times, squares, values >> down, products >> down)
        return list(map(pack_integer, packed))

    def unpack(self, packed: Any) -> Line:
        shift, count, times, squares, values, products = map(unpack_integer, packed)
        return shift, count, times, squares, values, products


@dataclass(frozen=True, slots=True)
class NewerMinusOlder(Sum):
    """The sum over the newer half of the window minus that over the older half; null without a value."""

    name = "newer_minus_older"
    halves = True

    def for_kind(self, kind: Kind | None) -> Aggregation[Any]:
        return IntegerNewerMinusOlder() if kind is Kind.INTEGER else self

    def value(self, whole: Moments | None, newer: Moments | None, at_us: int) -> float | None:
        if whole is None:
            return None
        if newer is None:
            return -whole[2] / (1 << whole[0])
        shift = max(whole[0], newer[0])
        return ((newer[2] << (shift - newer[0] + 1)) - (whole[2] << (shift - whole[0]))) / (1 << shift)

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return None, None


@dataclass(frozen=True, slots=True)
class IntegerNewerMinusOlder(NewerMinusOlder):
    """The same over integers, as an integer."""

    def dtype(self, kind: Kind | None) -> DType:
        return DType.INT64

    def value(self, whole: Moments | None, newer: Moments | None, at_us: int) -> int | None:
        if whole is None:
            return None
        return 2 * (newer[2] if newer else 0) - whole[2]
