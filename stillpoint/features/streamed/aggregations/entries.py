"""The events that one feature looks at, as parallel lists sorted by time (and by event id where the order counts)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Entries:
    """Times, values and (where order counts) ids of events. `exact` gives numbers as integers of one binary scale."""

    times: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    _exact: tuple[list[int], int] | None = None

    def __len__(self) -> int:
        return len(self.times)

    def exact(self) -> tuple[list[int], int]:
        """Return every value times 2 to the power of the shift, which makes all of them integers."""
        if self._exact is None:
            self._exact = exact_integers(self.values)
        return self._exact

    def changed(self) -> None:
        """Forget what was derived from the events, before others are entered."""
        self._exact = None

    def key(self, index: int) -> bytes:
        return self.keys[index] if self.keys else b""


def exact_integers(values: Sequence[float]) -> tuple[list[int], int]:
    """Return numbers as integers over a common power of two, exactly.

    >>> exact_integers([0.5, 3.0, 1])
    ([1, 6, 2], 1)
    """
    if not any(type(value) is float for value in values):
        return list(values), 0  # type: ignore[arg-type]  # all are integers
    ratios = [value.as_integer_ratio() for value in values]
    scale = max(below for _, below in ratios)
    return [above * (scale // below) for above, below in ratios], scale.bit_length() - 1


def pack_integer(value: int) -> int | bytes:
    """Return an integer as msgpack can hold it: bytes beyond 64 bits."""
    if -(1 << 63) <= value < 1 << 63:
        return value
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def unpack_integer(value: int | bytes) -> int:
    """Return the integer that `pack_integer` packed."""
    return int.from_bytes(value, "big", signed=True) if isinstance(value, bytes) else value
