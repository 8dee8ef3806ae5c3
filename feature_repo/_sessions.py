"""The plays of a session, and the share that was abandoned: the arithmetic of `session_bounce_rates`.

A session is a maximal run of a user's taps (every event but biometrics and impressions) without a gap of more than
30 minutes. `walk` is the definition: history walks all taps, the stream only those that may still change, starting from
the session as it stood before them. Counts are integers, so going on from there gives the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from stillpoint.clock import MINUTE, SECOND
from stillpoint.features.streamed.definition import Row

GAP_US = 30 * MINUTE
START, BOUNCE, OTHER = 0, 1, 2
SLEEP, BOUNCED = 1, 2


class TapMade(NamedTuple):
    """What a session needs of an event. Taps sort by time; of one time, starts come first, by event id."""

    event_us: int
    action: int
    key: bytes
    arrived_us: int
    play_id: str
    sleep: bool


@dataclass(slots=True)
class Session:
    """The session of a user's last tap: a mark per play, and their counts by mark (bits SLEEP and BOUNCED)."""

    first_us: int
    last_us: int
    newest_arrival_us: int
    plays: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def copy(self) -> "Session":
        return Session(self.first_us, self.last_us, self.newest_arrival_us, dict(self.plays), list(self.counts))

    def take(self, one: TapMade) -> None:
        """Take the next tap. The earliest start of a play decides its category; an exit before it does not count."""
        self.last_us = one.event_us
        self.newest_arrival_us = max(self.newest_arrival_us, one.arrived_us)
        if one.action == START and one.play_id not in self.plays:
            mark = SLEEP if one.sleep else 0
            self.plays[one.play_id] = mark
            self.counts[mark] += 1
        elif one.action == BOUNCE:
            mark = self.plays.get(one.play_id, BOUNCED)
            if not mark & BOUNCED:
                self.plays[one.play_id] = mark | BOUNCED
                self.counts[mark] -= 1
                self.counts[mark | BOUNCED] += 1

    def row(self, user_id: str) -> Row:
        """Return the view's row as of the last tap."""
        _, kept_sleep, bounced, bounced_sleep = self.counts
        plays, sleep_plays = len(self.plays), kept_sleep + bounced_sleep
        return (
            user_id,
            self.last_us,
            self.newest_arrival_us,
            plays,
            sleep_plays,
            (bounced + bounced_sleep) / plays if plays else None,
            bounced_sleep / sleep_plays if sleep_plays else None,
            (self.last_us - self.first_us) / SECOND,
        )


class Walk(NamedTuple):
    """Rows in order of time, and what must be kept: the session before `floor_us` and the taps from there on."""

    rows: list[Row]
    session: Session | None
    tail: list[TapMade]


def walk(
    user_id: str, session: Session | None, taps: Sequence[TapMade], *, since_us: int = -1, floor_us: int | None = None
) -> Walk:
    """Return a row for each time of `taps` that an event which arrived after `since_us` can have changed.

    `taps` are sorted and follow `session`, which is not modified. No event older than `floor_us` can come any more;
    without it nothing is kept.
    """
    rows = []
    kept, tail_at = None, len(taps)
    current = None if session is None else session.copy()
    position = 0
    for moment_us, group in groupby(taps, key=lambda one: one.event_us):
        if floor_us is not None and moment_us >= floor_us and tail_at == len(taps):
            kept, tail_at = None if current is None else current.copy(), position
        if current is None or moment_us - current.last_us > GAP_US:
            current = Session(moment_us, moment_us, -1)
        for one in group:
            current.take(one)
            position += 1
        if current.newest_arrival_us > since_us:
            rows.append(current.row(user_id))
    if floor_us is None:
        return Walk(rows, None, [])
    if tail_at == len(taps):
        kept = current
    if kept is not None and floor_us - kept.last_us > GAP_US:
        kept = None
    return Walk(rows, kept, list(taps[tail_at:]))
