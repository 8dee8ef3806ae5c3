"""Markers say on each shard how far all its states are stored, so that a shard that lost its last writes shows it.

A marker is written after the states of its batch. A replica repeats a primary's writes in their order: one that was promoted
and has the marker has the states. On a cluster there is a marker for every 64 hash slots, which moves with its slots, and
one more for a shard that has none of those.
"""

from collections.abc import Sequence
from functools import cache

from redis.crc import key_slot

SLOTS = 16_384
EVERY = 64


def marker_keys(query: str, ranges: Sequence[tuple[int, int, str]] | None) -> list[bytes]:
    """Return the keys of a query's markers. `ranges` are first slot, last slot and shard; None is one server."""
    key = f"stillpoint:state:{query}:marker"
    if ranges is None:
        return [key.encode()]
    slots = [slot for _, slot in _grid()]
    marked = {shard for first, last, shard in ranges if any(first <= slot <= last for slot in slots)}
    lowest: dict[str, int] = {}
    for first, _, shard in ranges:
        if shard not in marked:
            lowest[shard] = min(first, lowest.get(shard, first))
    tags = [tag for tag, _ in _grid()] + [_tag(slot) for slot in sorted(lowest.values())]
    return [f"{key}:{{{tag}}}".encode() for tag in tags]


@cache
def _grid() -> list[tuple[int, int]]:
    """Return, for each 64 slots, the smallest number whose text hashes into one of them, and that slot."""
    found: dict[int, tuple[int, int]] = {}
    number = 0
    while len(found) < SLOTS // EVERY:
        slot = int(key_slot(b"%d" % number))
        found.setdefault(slot // EVERY, (number, slot))
        number += 1
    return [found[part] for part in sorted(found)]


@cache
def _tag(slot: int) -> int:
    number = 0
    while key_slot(b"%d" % number) != slot:
        number += 1
    return number
