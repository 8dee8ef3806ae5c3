"""Which value occurs most often?"""

from dataclasses import dataclass
from typing import Any, ClassVar

from stillpoint.dtypes import SCALAR, DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries

Tally = dict[Any, tuple[int, int, bytes]]
"""By value: how often it occurs, and the time and id of its latest event."""


@dataclass(frozen=True, slots=True)
class MostFrequent(Aggregation[Tally]):
    """The most frequent value, of equally frequent ones that of the latest event; null without any."""

    name = "most_frequent"
    ordered = True
    takes: ClassVar[frozenset[Kind] | None] = frozenset({Kind.TEXT, Kind.INTEGER, Kind.FLAG})

    def dtype(self, kind: Kind | None) -> DType:
        return SCALAR[kind] if kind is not None else DType.STRING

    def summary(self, entries: Entries, first: int, end: int) -> Tally:
        found: Tally = {}
        for index in range(first, end):
            value = entries.values[index]
            known = found.get(value)
            found[value] = ((known[0] if known else 0) + 1, entries.times[index], entries.key(index))
        return found

    def join(self, older: Tally, newer: Tally) -> Tally:
        return self.join_all([older, newer])

    def join_all(self, summaries: list[Tally]) -> Tally:
        found = dict(summaries[0])
        for newer in summaries[1:]:
            for value, one in newer.items():
                known = found.get(value)
                if known is not None:
                    one = (one[0] + known[0], *max(one[1:], known[1:]))
                found[value] = one
        return found

    def value(self, whole: Tally | None, newer: Tally | None, at_us: int) -> Any:
        return None if whole is None else max(whole, key=lambda value: whole[value])

    def pack(self, summary: Tally) -> Any:
        return sorted((value, *place) for value, place in summary.items())

    def unpack(self, packed: Any) -> Tally:
        return {value: (count, time, key) for value, count, time, key in packed}

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        return minimum, maximum
