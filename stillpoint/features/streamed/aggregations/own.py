"""A feature of one's own: any pure function of the window's events and the moment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stillpoint.dtypes import DType, Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.entries import Entries

Function = Callable[[Sequence[Any], int], Any]


@dataclass(frozen=True, slots=True)
class Own(Aggregation[list[Any]]):
    """What a function makes of the window's events, oldest first, and the moment in microseconds."""

    function: Function
    gives: DType
    name = "own"
    ordered = True

    def dtype(self, kind: Kind | None) -> DType:
        return self.gives

    def summary(self, entries: Entries, first: int, end: int) -> list[Any]:
        return entries.values[first:end]

    def join(self, older: list[Any], newer: list[Any]) -> list[Any]:
        return older + newer

    def value(self, whole: list[Any] | None, newer: list[Any] | None, at_us: int) -> Any:
        return self.function(whole or [], at_us)
