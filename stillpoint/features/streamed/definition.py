"""The four methods by which the engine knows every streamed view, generic or hand-made.

What a key's rows still need is its part: unpacked when an event of the view arrives, changed, trimmed and packed again.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from stillpoint.app.events import Arrival

Row: TypeAlias = tuple[Any, ...]
"""The key's values, event and created microseconds, then the features. An embedding is a float32 array; null is None."""

Key: TypeAlias = tuple[str, ...]
P = TypeVar("P")


class Definition(Protocol[P]):
    """One view's pure computation over the events of one key. Nothing that it is given is changed, but the part."""

    def unpack(self, data: bytes) -> P:
        """Return the part that `pack` wrote; empty bytes give that of an unknown key."""

    def rows(self, key: Key, part: P, fresh: Sequence[Arrival]) -> tuple[list[Row], P]:
        """Take on-time events into the part, and return it with a row for each time that they can have changed."""

    def keep(self, part: P, floor_us: int) -> P:
        """Return what later rows need, given that no event before `floor_us` can come any more."""

    def pack(self, part: P) -> bytes:
        """Return the part as compact bytes; equal parts give equal bytes."""

    def reach_us(self, part: P) -> int:
        """Return the time from which on an unknown key would get the same rows."""


@runtime_checkable
class Turning(Protocol):
    """A definition that can also tell when one of its flags turns true, for what an event then asks for."""

    def turned(self, part: Any, moments_us: set[int]) -> dict[str, set[int]]:
        """Return by flag those of `moments_us` at which it is true while at the moment before it was not."""
