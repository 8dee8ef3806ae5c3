"""A definition of a team's own that fails costs the events that it met, in that view alone.

It fails if it raises, gives a value that its feature cannot hold (of another type, or not finite), or gives other values
for the same events: one step in 64, chosen by an event's id, is computed twice.
"""

import math
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stillpoint.app.events import Arrival
from stillpoint.dtypes import DType
from stillpoint.features.streamed.definition import Definition, Key, Row

EVERY = 64
_HOLDS: dict[DType, tuple[type, ...]] = {
    DType.INT64: (int,),
    DType.FLOAT64: (float, int),
    DType.BOOL: (bool,),
    DType.STRING: (str,),
    DType.EMBEDDING: (np.ndarray,),
    DType.STRINGS: (list, tuple),
    DType.INT64S: (list, tuple),
    DType.FLOAT64S: (list, tuple),
}
_LEAST, _GREATEST = -(1 << 63), (1 << 63) - 1


class DefinitionFailed(Exception):
    """A view's definition failed: the text names the view and the reason."""


class IsolatedEvent(NamedTuple):
    """An event that a view is without, since its definition failed with it."""

    view: str
    arrival: Arrival
    reason: str


class Given(NamedTuple):
    """A feature, and the type of what its definition gives."""

    name: str
    dtype: DType


def checked_rows(
    definition: Definition[Any], gives: Sequence[Given], key: Key, packed: bytes, fresh: Sequence[Arrival]
) -> tuple[list[Row], Any]:
    """Return what a definition's `rows` returns for a packed part, if it can be stored.

    Raises:
        DefinitionFailed: it cannot, or is not the same when computed again.
    """
    rows, part = definition.rows(key, definition.unpack(packed), fresh)
    for row in rows:
        for (name, dtype), value in zip(gives, row[len(key) + 2 :], strict=True):
            if not holds(dtype, value):
                raise DefinitionFailed(f"feature {name} gives {value!r}; expected {dtype}, finite, or None")
    if zlib.crc32(fresh[0].key) % EVERY == 0:
        again, _ = definition.rows(key, definition.unpack(packed), fresh)
        if list(map(_bits, rows)) != list(map(_bits, again)):
            raise DefinitionFailed("it gives other values for the same events; expected a pure function")
    return rows, part


def holds(dtype: DType, value: Any) -> bool:
    """Say whether a feature of a type can be stored with this value; None stands for no value."""
    if value is None:
        return True
    kind = type(value)
    if kind is float and dtype is DType.FLOAT64:
        return math.isfinite(value)
    if kind is int and dtype is DType.INT64:
        return bool(_LEAST <= value <= _GREATEST)
    if not isinstance(value, _HOLDS[dtype]) or (isinstance(value, bool) and dtype is not DType.BOOL):
        return False
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return _LEAST <= value <= _GREATEST
    if isinstance(value, np.ndarray):
        return math.isfinite(value.dot(value)) or bool(np.isfinite(value).all())
    return not isinstance(value, list | tuple) or all(one is not None and holds(_PART[dtype], one) for one in value)


_PART = {DType.STRINGS: DType.STRING, DType.INT64S: DType.INT64, DType.FLOAT64S: DType.FLOAT64}


def _bits(row: Row) -> tuple[Any, ...]:
    return tuple(value.tobytes() if isinstance(value, np.ndarray) else repr(value) for value in row)
