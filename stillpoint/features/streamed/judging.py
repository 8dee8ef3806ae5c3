"""What becomes of a valid event: on time, duplicate, late or erased? Decided user by user, in the order of arrival.

The memory per user is small: the newest time of each family, the last arrival, and the ids of on-time events that a copy
could still meet. The first rule that applies decides. Nothing here depends on where a micro-batch ends.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import msgspec

from stillpoint.app.events import ENVELOPE, Arrival, Event
from stillpoint.app.fields import fields_of
from stillpoint.events.types import Verdict


class Remembered(NamedTuple):
    """An on-time event, as long as a copy of it would be neither late nor too old; without checksum none differs."""

    event_us: int
    family: str
    lateness_us: int | None
    fingerprint: int | None


@dataclass(slots=True)
class Memory:
    """What verdicts on one user's next events depend on. `newest_us` is by family."""

    last_arrived_us: int | None = None
    newest_us: dict[str, int] = field(default_factory=dict)
    remembered: dict[bytes, Remembered] = field(default_factory=dict)

    def copy(self) -> "Memory":
        return Memory(self.last_arrived_us, dict(self.newest_us), dict(self.remembered))


class Judgement(NamedTuple):
    """A verdict, the arrival made strictly increasing, and whether a duplicate differs from the event it repeats."""

    verdict: Verdict
    arrived_us: int
    differs: bool = False


def judge(memory: Memory, arrival: Arrival, *, max_event_age_us: int, erased_until_us: int | None) -> Judgement:
    """Return the verdict on the user's next event, and take it into `memory`. An erased event leaves no trace there.

    Erased is what happened or arrived up to the erasure: a client's clock may have been ahead of it.
    """
    event, event_us, arrived_us, key = arrival
    if erased_until_us is not None and min(event_us, arrived_us) <= erased_until_us:
        return Judgement(Verdict.ERASED, arrived_us)
    last = memory.last_arrived_us
    if last is not None and arrived_us <= last:
        arrived_us = last + 1
    memory.last_arrived_us = arrived_us
    family, lateness_us, _ = _rules(type(event))
    newest = None if lateness_us is None else memory.newest_us.get(family)
    if arrived_us - event_us > max_event_age_us:
        return Judgement(Verdict.LATE, arrived_us)
    if newest is not None and lateness_us is not None and event_us < newest - lateness_us:
        return Judgement(Verdict.LATE, arrived_us)
    fingerprint = _fingerprint(event, event_us)
    known = memory.remembered.get(key)
    if known is not None:
        if _lives(memory, known, max_event_age_us):
            return Judgement(Verdict.DUPLICATE, arrived_us, known.fingerprint not in (None, fingerprint))
        del memory.remembered[key]  # so that the memory stays in order of arrival, whenever `forget` was called
    memory.remembered[key] = Remembered(event_us, family, lateness_us, fingerprint)
    if lateness_us is not None and (newest is None or event_us > newest):
        memory.newest_us[family] = event_us
    return Judgement(Verdict.ON_TIME, arrived_us)


def forget(memory: Memory, max_event_age_us: int) -> None:
    """Drop the ids whose copies would be late by now. Verdicts do not depend on when this is called."""
    gone = [key for key, known in memory.remembered.items() if not _lives(memory, known, max_event_age_us)]
    for key in gone:
        del memory.remembered[key]


def _lives(memory: Memory, known: Remembered, max_event_age_us: int) -> bool:
    """Say whether a copy of the event, arriving now, would be neither late nor too old."""
    assert memory.last_arrived_us is not None
    if memory.last_arrived_us - known.event_us > max_event_age_us:
        return False
    newest = memory.newest_us.get(known.family)
    return known.lateness_us is None or newest is None or known.event_us >= newest - known.lateness_us


@lru_cache(maxsize=1024)
def _rules(event: type[Event]) -> tuple[str, int | None, Callable[[Event], object]]:
    """Return a type's family, its allowed lateness, and what reads the fields of an event that its client chose."""
    names = [name for name in fields_of(event) if name not in ENVELOPE]
    return event.family.name, event.family.lateness_us, attrgetter("user_id", "platform", *names)


def _fingerprint(event: Event, event_us: int) -> int:
    """Return a checksum of all that the client sent, to tell copies from events that reuse an id."""
    kind = type(event)
    return zlib.crc32(_encode((kind.__name__, event_us, _rules(kind)[2](event))))


_encode = msgspec.json.Encoder().encode
