"""The verdict on a valid event: on time, duplicate, late or erased.

Decided event by event in arrival order, from a small memory per user: the newest time of each family, the last arrival
and the ids of on-time events that a copy could still meet. The first rule that applies decides. Nothing here depends on
where a micro-batch ends.
"""

import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import orjson

from stillpoint.clock import SECOND
from stillpoint.events.parsing import AppEvent
from stillpoint.events.types import EventType, Verdict
from stillpoint.features.declarations import ALLOWED_LATENESS

LATENESS_US = int(ALLOWED_LATENESS.total_seconds()) * SECOND


class Family(IntEnum):
    """Events that are late only with regard to each other: watches deliver hourly, taps at once."""

    TAP = 0
    BIOMETRIC = 1
    IMPRESSION = 2


_FAMILIES = {EventType.BIOMETRIC: Family.BIOMETRIC, EventType.IMPRESSION: Family.IMPRESSION}


def family(event_type: EventType) -> Family:
    """Return the family of an event type."""
    return _FAMILIES.get(event_type, Family.TAP)


class RememberedEvent(NamedTuple):
    """An on-time event that is remembered for as long as a copy of it would be neither late nor too old."""

    event_us: int
    family: Family
    fingerprint: int


@dataclass(slots=True)
class Memory:
    """The state per user on which verdicts depend. `newest_us` has the newest time of taps and of biometrics."""

    last_arrived_us: int | None = None
    newest_us: list[int | None] = field(default_factory=lambda: [None, None])
    remembered: dict[bytes, RememberedEvent] = field(default_factory=dict)

    def copy(self) -> "Memory":
        return Memory(self.last_arrived_us, list(self.newest_us), dict(self.remembered))


class Judgement(NamedTuple):
    """A verdict, the arrival made strictly increasing, and whether a duplicate differs from the event it repeats."""

    verdict: Verdict
    arrived_us: int
    differs: bool = False


def judge(memory: Memory, event: AppEvent, *, max_event_age_us: int, erased_until_us: int | None) -> Judgement:
    """Return the verdict on the user's next event, and take it into `memory`. An erased event leaves no trace there.

    An event is erased if it happened or arrived before the erasure ended; both count, since a client's clock may be ahead.
    """
    event_us = event.event_us
    if erased_until_us is not None and min(event_us, event.arrived_us) <= erased_until_us:
        return Judgement(Verdict.ERASED, event.arrived_us)
    last = memory.last_arrived_us
    arrived_us = event.arrived_us if last is None or event.arrived_us > last else last + 1
    memory.last_arrived_us = arrived_us
    kin = family(event.type)
    newest = None if kin is Family.IMPRESSION else memory.newest_us[kin]
    if arrived_us - event_us > max_event_age_us or (newest is not None and event_us < newest - LATENESS_US):
        return Judgement(Verdict.LATE, arrived_us)
    key = event_key(event.event_id)
    fingerprint = _fingerprint(event)
    known = memory.remembered.get(key)
    if known is not None:
        if _lives(memory, known, max_event_age_us):
            return Judgement(Verdict.DUPLICATE, arrived_us, known.fingerprint != fingerprint)
        del memory.remembered[key]  # keeps the memory in order of arrival, whenever `forget` is called
    memory.remembered[key] = RememberedEvent(event_us, kin, fingerprint)
    if kin is not Family.IMPRESSION and (newest is None or event_us > newest):
        memory.newest_us[kin] = event_us
    return Judgement(Verdict.ON_TIME, arrived_us)


def forget(memory: Memory, max_event_age_us: int) -> None:
    """Drop the ids whose copies would be late by now. Verdicts do not depend on when this is called."""
    gone = [key for key, known in memory.remembered.items() if not _lives(memory, known, max_event_age_us)]
    for key in gone:
        del memory.remembered[key]


def event_key(event_id: str) -> bytes:
    """Return the 16 bytes of an event's UUID; they sort as the lower-case text does."""
    return bytes.fromhex(event_id.replace("-", ""))


def _lives(memory: Memory, known: RememberedEvent, max_event_age_us: int) -> bool:
    """Return whether a copy of the event, arriving now, would be neither late nor too old."""
    assert memory.last_arrived_us is not None
    if memory.last_arrived_us - known.event_us > max_event_age_us:
        return False
    if known.family is Family.IMPRESSION:
        return True
    newest = memory.newest_us[known.family]
    return newest is None or known.event_us >= newest - LATENESS_US


def _fingerprint(event: AppEvent) -> int:
    """Return a checksum of all that the client sent, to tell copies from events that reuse an id."""
    return zlib.crc32(orjson.dumps((event[:4], event[5:-1])))
