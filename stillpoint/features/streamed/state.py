"""The bounded memory of one user, in sections: one per view, named by the view and the digest of its definition.

Version 2 of the stored state. A section that no view of the app knows is kept as long as a later row could need it: a view
that is being added or removed by another run of the stream is not harmed. Version 1, of the first app's three views, is read and migrated.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from stillpoint.app.version_one import VersionOne
from stillpoint.errors import CorruptData
from stillpoint.features.streamed.judging import Memory, Remembered
from stillpoint.features.streamed.section import Kept

STATE_VERSION = 2


class Section(NamedTuple):
    """A view's memory, and the floor of its events from which on it does not matter any more."""

    until_us: int
    data: bytes


@dataclass(slots=True)
class UserState:
    """Verdicts' memory, and the views' sections."""

    memory: Memory = field(default_factory=Memory)
    sections: dict[str, Section] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the state as compact bytes; equal states give equal bytes."""
        memory = self.memory
        families = sorted({(known.family, known.lateness_us) for known in memory.remembered.values()}, key=str)
        place = {family: index for index, family in enumerate(families)}
        known = [
            (key, one.event_us, place[one.family, one.lateness_us], one.fingerprint)
            for key, one in memory.remembered.items()
        ]
        newest = sorted(memory.newest_us.items())
        sections = [(name, *section) for name, section in sorted(self.sections.items())]
        return msgspec.msgpack.encode((STATE_VERSION, memory.last_arrived_us, newest, families, known, sections))

    @classmethod
    def from_bytes(cls, data: bytes, one: VersionOne | None = None) -> "UserState":
        """Return the state that `to_bytes` wrote; empty bytes give that of an unknown user.

        Raises:
            CorruptData: the bytes are no state, or one of a version that the app cannot read.
        """
        if not data:
            return cls()
        try:
            version, *rest = msgspec.msgpack.decode(data)
            if version == 1 and one is not None:
                return _from_version_one(rest, one)
            if version == STATE_VERSION:
                last, newest, families, known, sections = rest
                remembered = {
                    key: Remembered(us, families[place][0], families[place][1], mark) for key, us, place, mark in known
                }
                kept = {name: Section(until, part) for name, until, part in sections}
                return cls(Memory(last, dict(newest), remembered), kept)
        except (ValueError, TypeError, IndexError, msgspec.MsgspecError) as error:
            raise CorruptData(
                f"{len(data)} bytes are no user state: {error}; erase them and replay the stream"
            ) from None
        raise CorruptData(
            f"a user state of version {version}; expected {STATE_VERSION}; replay the stream into a fresh state"
        )


def _from_version_one(rest: list[Any], one: VersionOne) -> UserState:
    """Return version 1's state: each view's bytes become the part of its section, whose floor follows from its family.

    Its checksums are of another kind, so that of its events no copy is said to differ.
    """
    last, newest, known, *packed = rest
    times = {name: us for (name, _), us in zip(one.families, newest, strict=False) if us is not None}
    remembered = {
        key: Remembered(us, one.families[place][0], one.families[place][1], None) for key, us, place, _ in known
    }
    sections = {}
    for (name, place, reach_us), part in zip(one.sections, packed, strict=True):
        if part:
            family = one.families[place][0]
            until = times[family] + reach_us
            kept = Kept(0, last, {family: times[family]}, {(): (until, part)})
            sections[name] = Section(until, kept.pack())
    return UserState(Memory(last, times, remembered), sections)
