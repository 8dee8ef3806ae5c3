"""The contract of an aggregation: five small pure methods, from which the engine makes every kind of window.

`summary` sums up a run of events, `join` two summaries of which the first is older, `value` answers. A window of a month
is a handful of joined summaries, a session one that grows, a short window the summary of its events; whichever way, the
answer must have the same bits. So a summary depends on the events alone, never on how they were cut: exact integers,
sets, or the event that wins by (time, id). The suite in `tests/contracts/test_aggregations.py` runs over every class.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Generic, TypeVar

from stillpoint.dtypes import DType, Kind
from stillpoint.features.streamed.aggregations.entries import Entries

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Aggregation(ABC, Generic[S]):
    """How a window's events become one value. Instances are compared by their parameters."""

    name: ClassVar[str]
    ordered: ClassVar[bool] = False
    """Whether events of one time must be told apart by their ids."""
    halves: ClassVar[bool] = False
    """Whether the newer half of the window is asked for too."""
    takes: ClassVar[frozenset[Kind] | None] = frozenset()
    """The kinds of field that it can take; empty if it looks at no field, None for any."""
    never_null: ClassVar[bool] = False

    @property
    def newest(self) -> int | None:
        """Return how many of the newest events decide the value; None if all may."""
        return None

    def for_kind(self, kind: Kind | None) -> "Aggregation[Any]":
        """Return the aggregation as it is over a field of that kind."""
        return self

    @abstractmethod
    def dtype(self, kind: Kind | None) -> DType:
        """Return the feature's type, given its field's."""

    @abstractmethod
    def summary(self, entries: Entries, first: int, end: int) -> S:
        """Return the summary of the events from `first` up to `end`, of which there is at least one."""

    @abstractmethod
    def join(self, older: S, newer: S) -> S:
        """Return the summary of both runs' events; neither argument is changed."""

    @abstractmethod
    def value(self, whole: S | None, newer: S | None, at_us: int) -> Any:
        """Return the value as of `at_us`; None as a summary means no event. `newer` is the newer half's, if asked for."""

    def join_all(self, summaries: list[S]) -> S:
        """Return the summary of several runs, oldest first, of which there is at least one."""
        return reduce(self.join, summaries)

    def compact(self, tiles: list[tuple[int, S]]) -> list[tuple[int, S]]:
        """Return summaries by step, oldest first, without what no window can need that ends after all of them."""
        return tiles

    def pack(self, summary: S) -> Any:
        """Return the summary as msgpack can hold it; equal summaries give equal bytes."""
        return summary

    def unpack(self, packed: Any) -> S:
        """Return the summary that `pack` packed."""
        found: S = packed
        return found

    def bounds(self, minimum: float | None, maximum: float | None) -> tuple[float | None, float | None]:
        """Return the range of the feature, given that of its field."""
        return None, None
