"""How many events are there, is there any, and how many different values do they have?"""

from dataclasses import dataclass
from typing import Any, ClassVar

from stillpoint.dtypes import DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries


@dataclass(frozen=True, slots=True)
class Count(Aggregation[int]):
    """The number of events; 0 without any."""

    name = "count"
    never_null = True

    def dtype(self, kind: Kind | None) -> DType:
        return DType.INT64

    def summary(self, entries: Entries, first: int, end: int) -> int:
        return end - first

    def join(self, older: int, newer: int) -> int:
        return older + newer

    def join_all(self, summaries: list[int]) -> int:
        return sum(summaries)

    def value(self, whole: int | None, newer: int | None, at_us: int) -> int:
        return whole or 0

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return 0, None


@dataclass(frozen=True, slots=True)
class Exists(Aggregation[bool]):
    """Whether there is any event."""

    name = "exists"
    never_null = True

    @property
    def newest(self) -> int:
        return 1

    def dtype(self, kind: Kind | None) -> DType:
        return DType.BOOL

    def summary(self, entries: Entries, first: int, end: int) -> bool:
        return True

    def join(self, older: bool, newer: bool) -> bool:
        return True

    def value(self, whole: bool | None, newer: bool | None, at_us: int) -> bool:
        return whole is not None

    def compact(self, tiles: list[tuple[int, bool]]) -> list[tuple[int, bool]]:
        return tiles[-1:]


Values = frozenset[Any]


@dataclass(frozen=True, slots=True)
class CountDistinct(Aggregation[Values]):
    """The number of different values; 0 without any. Exact: every value of the window is kept once."""

    name = "count_distinct"
    takes: ClassVar[frozenset[Kind] | None] = frozenset({Kind.TEXT, Kind.INTEGER, Kind.FLAG})
    never_null = True

    def dtype(self, kind: Kind | None) -> DType:
        return DType.INT64

    def summary(self, entries: Entries, first: int, end: int) -> Values:
        return frozenset(entries.values[first:end])

    def join(self, older: Values, newer: Values) -> Values:
        return older | newer

    def value(self, whole: Values | None, newer: Values | None, at_us: int) -> int:
        return len(whole) if whole else 0

    def compact(self, tiles: list[tuple[int, Values]]) -> list[tuple[int, Values]]:
        """Keep each value where it stands last: a window that reaches an earlier step reaches that one too."""
        seen: set[Any] = set()
        kept = []
        for step, values in reversed(tiles):
            if fresh := values - seen:
                kept.append((step, fresh))
                seen |= fresh
        return kept[::-1]

    def pack(self, summary: Values) -> Any:
        return sorted(summary)

    def unpack(self, packed: Any) -> Values:
        return frozenset(packed)

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return 0, None


Pair = tuple[Values, Values]


@dataclass(frozen=True, slots=True)
class Share(Aggregation[Pair]):
    """Of the different ids of the base events, the share that an event of the other kind carries too; null without any.

    Values are (is it of the base, id). An event can be of both kinds, and is then entered twice.
    """

    name = "share"
    takes: ClassVar[frozenset[Kind] | None] = frozenset({Kind.TEXT, Kind.INTEGER})

    def dtype(self, kind: Kind | None) -> DType:
        return DType.FLOAT64

    def summary(self, entries: Entries, first: int, end: int) -> Pair:
        chosen = entries.values[first:end]
        return frozenset(id for base, id in chosen if base), frozenset(id for base, id in chosen if not base)

    def join(self, older: Pair, newer: Pair) -> Pair:
        return older[0] | newer[0], older[1] | newer[1]

    def value(self, whole: Pair | None, newer: Pair | None, at_us: int) -> float | None:
        if whole is None or not whole[0]:
            return None
        return len(whole[0] & whole[1]) / len(whole[0])

    def compact(self, tiles: list[tuple[int, Pair]]) -> list[tuple[int, Pair]]:
        seen: tuple[set[Any], set[Any]] = (set(), set())
        kept = []
        for step, (base, hits) in reversed(tiles):
            fresh = (base - seen[0], hits - seen[1])
            if fresh[0] or fresh[1]:
                kept.append((step, fresh))
                seen[0].update(fresh[0])
                seen[1].update(fresh[1])
        return kept[::-1]

    def pack(self, summary: Pair) -> Any:
        return sorted(summary[0]), sorted(summary[1])

    def unpack(self, packed: Any) -> Pair:
        return frozenset(packed[0]), frozenset(packed[1])

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return 0, 1
