"""Brings the reply of an HGETALL into the order of the fields that were asked for.

Hashes that one writer filled have one order of fields: that of the last few is remembered, so that a reply costs a
comparison and a pick instead of a dict.
"""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

_ORDERS = 8


class WholeHash:
    """Picks fields, at least two, out of replies that hold fields and values in turn."""

    __slots__ = ("_fields", "_orders")

    def __init__(self, fields: Sequence[bytes]) -> None:
        self._fields = fields
        self._orders: list[tuple[list[bytes], Callable[[list[Any]], Sequence[Any]]]] = []

    def pick(self, reply: Any) -> Sequence[bytes | None]:
        """Return the value of each field, None where the hash does not have it. `reply` may be changed."""
        if isinstance(reply, dict):
            return [reply.get(field) for field in self._fields]
        order = reply[::2]
        reply.append(None)  # what a field that is missing is read from
        for known, chosen in self._orders:
            if known == order:
                return chosen(reply)
        place = {field: 2 * number + 1 for number, field in enumerate(order)}
        chosen = itemgetter(*(place.get(field, -1) for field in self._fields))
        if len(self._orders) < _ORDERS:
            self._orders.append((order, chosen))
        picked: Sequence[bytes | None] = chosen(reply)
        return picked
