"""What a view keeps of one user (or of one key that belongs to none): bytes per key, and what the floor follows from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from stillpoint.app.events import Arrival, Event
from stillpoint.features.streamed.definition import Key


@dataclass(slots=True)
class Kept:
    """`newest_us` is by family, over the view's own events, as `last_arrived_us` is; `floor_us` never goes back.

    `parts` are by key, behind the time from which on they do not matter any more; of a view whose only key is the user
    there is one, under the empty key.
    """

    floor_us: int = 0
    last_arrived_us: int = 0
    newest_us: dict[str, int] = field(default_factory=dict)
    parts: dict[Key, tuple[int, bytes]] = field(default_factory=dict)

    def take(self, fresh: Sequence[Arrival], family_of: Mapping[type[Event], str]) -> None:
        """Take note of events' times."""
        for event, event_us, arrived_us, _ in fresh:
            family = family_of[type(event)]
            self.newest_us[family] = max(event_us, self.newest_us.get(family, event_us))
            self.last_arrived_us = max(arrived_us, self.last_arrived_us)

    def part(self, key: Key) -> bytes:
        """Return a key's part, empty for an unknown one."""
        return self.parts.get(key, (0, b""))[1]

    def settle(self, floor_us: int) -> None:
        """Move the floor, and drop the parts that no later row can need."""
        self.floor_us = floor_us
        gone = [key for key, (until_us, _) in self.parts.items() if until_us <= floor_us]
        for key in gone:
            del self.parts[key]

    @property
    def until_us(self) -> int:
        """The floor from which on nothing of this matters any more."""
        return max((until_us for until_us, _ in self.parts.values()), default=0)

    def pack(self) -> bytes:
        newest = sorted(self.newest_us.items())
        parts = [(key, *part) for key, part in sorted(self.parts.items())]
        return msgspec.msgpack.encode((self.floor_us, self.last_arrived_us, newest, parts))

    @classmethod
    def unpack(cls, data: bytes) -> "Kept":
        """Return what `pack` packed; empty bytes give that of an unknown user."""
        if not data:
            return cls()
        floor, last, newest, parts = msgspec.msgpack.decode(data)
        return cls(floor, last, dict(newest), {tuple(key): (until, part) for key, until, part in parts})
