"""Which value came first, which last, and how long ago? Events of one time are ordered by their ids."""

from dataclasses import dataclass
from typing import Any, ClassVar

from stillpoint.dtypes import LISTS, SCALAR, DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries

Placed = tuple[int, bytes, Any]
"""A value behind its event's time and id."""

_SECOND = 1_000_000


class _OneOf(Aggregation[Placed]):
    __slots__ = ()
    ordered: ClassVar[bool] = True
    takes: ClassVar[frozenset[Kind] | None] = frozenset(SCALAR)

    def dtype(self, kind: Kind | None) -> DType:
        return SCALAR[kind] if kind is not None else DType.STRING

    def value(self, whole: Placed | None, newer: Placed | None, at_us: int) -> Any:
        return None if whole is None else whole[2]

    def unpack(self, packed: Any) -> Placed:
        return tuple(packed)

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return minimum, maximum


@dataclass(frozen=True, slots=True)
class First(_OneOf):
    """The value of the earliest event; null without any."""

    name = "first"

    def summary(self, entries: Entries, first: int, end: int) -> Placed:
        return entries.times[first], entries.key(first), entries.values[first]

    def join(self, older: Placed, newer: Placed) -> Placed:
        return older if older[:2] <= newer[:2] else newer


@dataclass(frozen=True, slots=True)
class Last(_OneOf):
    """The value of the latest event; null without any."""

    name = "last"

    @property
    def newest(self) -> int:
        return 1

    def summary(self, entries: Entries, first: int, end: int) -> Placed:
        return entries.times[end - 1], entries.key(end - 1), entries.values[end - 1]

    def join(self, older: Placed, newer: Placed) -> Placed:
        return newer if newer[:2] >= older[:2] else older

    def compact(self, tiles: list[tuple[int, Placed]]) -> list[tuple[int, Placed]]:
        return tiles[-1:]


@dataclass(frozen=True, slots=True)
class LastN(Aggregation[list[Placed]]):
    """The values of the latest events, newest first; null without any."""

    count: int
    name = "last_n"
    ordered = True
    takes: ClassVar[frozenset[Kind] | None] = frozenset(LISTS)

    @property
    def newest(self) -> int:
        return self.count

    def dtype(self, kind: Kind | None) -> DType:
        return LISTS[kind] if kind is not None else DType.STRINGS

    def summary(self, entries: Entries, first: int, end: int) -> list[Placed]:
        start = max(first, end - self.count)
        return [(entries.times[i], entries.key(i), entries.values[i]) for i in range(end - 1, start - 1, -1)]

    def join(self, older: list[Placed], newer: list[Placed]) -> list[Placed]:
        both = sorted(older + newer, key=lambda one: one[:2], reverse=True)
        return both[: self.count]

    def value(self, whole: list[Placed] | None, newer: list[Placed] | None, at_us: int) -> list[Any] | None:
        return None if whole is None else [value for _, _, value in whole]

    def unpack(self, packed: Any) -> list[Placed]:
        return [tuple(one) for one in packed]

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return minimum, maximum


@dataclass(frozen=True, slots=True)
class TimeSinceLast(Aggregation[int]):
    """Seconds since the latest event; null without any."""

    name = "time_since_last"

    @property
    def newest(self) -> int:
        return 1

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def summary(self, entries: Entries, first: int, end: int) -> int:
        return entries.times[end - 1]

    def join(self, older: int, newer: int) -> int:
        return max(older, newer)

    def value(self, whole: int | None, newer: int | None, at_us: int) -> float | None:
        return None if whole is None else (at_us - whole) / _SECOND

    def compact(self, tiles: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return tiles[-1:]

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return 0, None


@dataclass(frozen=True, slots=True)
class TimeSinceFirst(Aggregation[int]):
    """Seconds since the earliest event of the window; null without any."""

    name = "time_since_first"

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def summary(self, entries: Entries, first: int, end: int) -> int:
        return entries.times[first]

    def join(self, older: int, newer: int) -> int:
        return min(older, newer)

    def value(self, whole: int | None, newer: int | None, at_us: int) -> float | None:
        return None if whole is None else (at_us - whole) / _SECOND

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return 0, None
