"""The view `session_bounce_rates`: the plays of a session, and the share that was abandoned."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stillpoint.app import CustomView, minutes, user
from stillpoint.app.events import Arrival
from stillpoint.app.records import Feature
from stillpoint.dtypes import DType
from stillpoint.features.streamed.definition import Key, Row

from . import _sessions as sessions
from .events import ContentExit, ContentStart, Tap

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder

BOUNCE_SECONDS = 60


class SessionPart(NamedTuple):
    """The session before the floor, and the taps from there on."""

    session: sessions.Session | None
    taps: list[sessions.TapMade]


class Sessions:
    """A session is a maximal run of taps without a gap of more than 30 minutes."""

    def __init__(self, encoder: "Encoder | None" = None) -> None: ...

    def rows(self, key: Key, part: SessionPart, fresh: Sequence[Arrival]) -> tuple[list[Row], SessionPart]:
        since_us = min(arrival.arrived_us for arrival in fresh) - 1
        taps = sorted([*part.taps, *map(_tap, fresh)])
        walked = sessions.walk(key[0], part.session, taps, since_us=since_us)
        return walked.rows, SessionPart(part.session, taps)

    def keep(self, part: SessionPart, floor_us: int) -> SessionPart:
        settled = bisect_left(part.taps, floor_us, key=_time)
        if not settled and (part.session is None or floor_us - part.session.last_us <= sessions.GAP_US):
            return part
        walked = sessions.walk("", part.session, part.taps[:settled], since_us=_NEVER, floor_us=floor_us)
        return SessionPart(walked.session, part.taps[settled:])

    def reach_us(self, part: SessionPart) -> int:
        last = part.taps[-1].event_us if part.taps else part.session.last_us if part.session else 0
        return last + sessions.GAP_US + 1

    def pack(self, part: SessionPart) -> bytes:
        base = part.taps[0].event_us if part.taps else 0
        head = None
        if part.session is not None:
            one = part.session
            head = (one.first_us, one.last_us, one.newest_arrival_us, list(one.plays), bytes(one.plays.values()))
        short = [
            (
                one.event_us - base,
                one.action,
                one.arrived_us - base,
                *((one.key, one.play_id, one.sleep) if one.action != sessions.OTHER else ()),
            )
            for one in part.taps
        ]
        return msgspec.msgpack.encode((base, head, short))

    def unpack(self, data: bytes) -> SessionPart:
        if not data:
            return SessionPart(None, [])
        base, head, short = msgspec.msgpack.decode(data)
        session = None
        if head is not None:
            first, last, newest, plays, marks = head
            counts = [marks.count(mark) for mark in range(4)]
            session = sessions.Session(first, last, newest, dict(zip(plays, marks, strict=True)), counts)
        taps = [
            sessions.TapMade(
                base + us, action, *((rest[0], base + arrived, *rest[1:]) if rest else (b"", base + arrived, "", False))
            )
            for us, action, arrived, *rest in short
        ]
        return SessionPart(session, taps)


_NEVER = 1 << 62
_time = attrgetter("event_us")


def _tap(arrival: Arrival) -> sessions.TapMade:
    event, event_us, arrived_us, key = arrival
    if isinstance(event, ContentStart):
        return sessions.TapMade(event_us, sessions.START, key, arrived_us, event.play_id, event.category == "sleep")
    if isinstance(event, ContentExit) and event.position_seconds < BOUNCE_SECONDS:
        return sessions.TapMade(event_us, sessions.BOUNCE, b"", arrived_us, event.play_id, False)
    return sessions.TapMade(event_us, sessions.OTHER, b"", arrived_us, "", False)


class SessionBounceRates(CustomView):
    """Plays of the current session, and the share that was abandoned within a minute."""

    entity, ttl, on, makes = user, minutes(30), (Tap,), Sessions
    described = (
        Feature(
            name="session_play_count",
            dtype=DType.INT64,
            unit="plays",
            minimum=0,
            description="Distinct plays started in the current session.",
        ),
        Feature(
            name="session_sleep_play_count",
            dtype=DType.INT64,
            unit="plays",
            minimum=0,
            description="Of those, plays of sleep content.",
        ),
        Feature(
            name="session_bounce_rate",
            dtype=DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no play in the session",
            description="Share of the session's plays exited before 60 seconds.",
        ),
        Feature(
            name="session_sleep_bounce_rate",
            dtype=DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no sleep play in the session",
            description="Share of the session's sleep plays exited before 60 seconds.",
        ),
        Feature(
            name="session_age_seconds",
            dtype=DType.FLOAT64,
            unit="seconds",
            minimum=0,
            description="Time since the session's first event.",
        ),
    )
