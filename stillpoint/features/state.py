"""The stream's memory of a user, and its one step: state and arrivals in, verdicts, rows and the next state out.

`advance` is the stream's one step: state and arrivals in, verdicts, rows and the next state out. It performs nothing and
changes nothing, so it can be repeated. Rows are those of the plain definitions in `sessions`, `searches` and
`biometrics`; the state keeps just what these still need.

What bounds a state: 10 minutes of taps, one mark per distinct play of the current session, 24 hours of search times with
the embeddings of the last 10 minutes and of five more, 20 minutes of biometric samples, and the ids of the events whose
copies would not be late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgpack

from stillpoint.clock import SECOND
from stillpoint.encoder import Encoder
from stillpoint.errors import CorruptData
from stillpoint.events.parsing import AppEvent
from stillpoint.events.types import EventType, Verdict
from stillpoint.features.columns import Row
from stillpoint.features.declarations import BIOMETRICS, SEARCH_EMBEDDINGS, SEARCH_WINDOW, SESSION_BOUNCE_RATES
from stillpoint.features.streamed import biometrics, searches, sessions
from stillpoint.features.verdicts import LATENESS_US, Family, Memory, RememberedEvent, event_key, forget, judge

STATE_VERSION = 1
_SEARCH_WINDOW_US = int(SEARCH_WINDOW.total_seconds()) * SECOND


@dataclass(slots=True)
class UserState:
    """The bounded memory of one user. The parts of the views stay packed until an event of theirs arrives."""

    memory: Memory = field(default_factory=Memory)
    taps: bytes = b""
    searches: bytes = b""
    samples: bytes = b""

    def to_bytes(self) -> bytes:
        """Return the state as compact bytes; equal states give equal bytes."""
        memory = self.memory
        known = [(key, *value) for key, value in memory.remembered.items()]
        packed: bytes = msgpack.packb(
            (STATE_VERSION, memory.last_arrived_us, memory.newest_us, known, self.taps, self.searches, self.samples)
        )
        return packed

    @classmethod
    def from_bytes(cls, data: bytes) -> "UserState":
        """Return the state that `to_bytes` wrote; empty bytes give that of an unknown user.

        Raises:
            CorruptData: the bytes are no state, or one of another version.
        """
        if not data:
            return cls()
        try:
            version, last, newest, known, taps, queries, samples = msgpack.unpackb(data)
            remembered = {key: RememberedEvent(us, Family(kin), mark) for key, us, kin, mark in known}
        except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise CorruptData(
                f"{len(data)} bytes are no user state: {error}; erase them and replay the stream"
            ) from None
        if version != STATE_VERSION:
            raise CorruptData(
                f"a user state of version {version}; expected {STATE_VERSION}; replay the stream into a fresh state"
            )
        return cls(Memory(last, newest, remembered), taps, queries, samples)

    def expires_us(self, max_event_age_us: int) -> int:
        """Return the arrival time from which an empty state gives the same verdicts and rows as this one."""
        memory = self.memory
        times = [us for us in memory.newest_us if us is not None]
        times += [known.event_us for known in memory.remembered.values()]
        newest = max(times, default=0) + max_event_age_us + _SEARCH_WINDOW_US + 1
        return max(newest, (memory.last_arrived_us or 0) + 1)


class StepOutcome(NamedTuple):
    """What follows from a user's arrivals.

    `verdicts` and `events` are one per arrival, in order; an event's `arrived_us` is the strictly increasing one that
    the lake stores. `rows` holds each streamed view's rows. `rising` are the indices of the arrivals that turned
    `exertion_rising` true, `differing` those of the duplicates whose payload differs from the first.
    """

    state: UserState
    verdicts: list[Verdict]
    events: list[AppEvent]
    rows: Mapping[str, list[Row]]
    rising: tuple[int, ...]
    differing: tuple[int, ...]


def advance(
    state: UserState,
    arrivals: Sequence[AppEvent],
    *,
    encoder: Encoder,
    max_event_age_us: int,
    erased_until_us: int | None = None,
) -> StepOutcome:
    """Return what the arrivals of one user, in shard order, lead to. `state` is not modified.

    A view gets a row for each time that an arrival can have changed, with its values after all of them.
    """
    memory = state.memory.copy()
    since_us = -1 if memory.last_arrived_us is None else memory.last_arrived_us
    verdicts: list[Verdict] = []
    events: list[AppEvent] = []
    differing: list[int] = []
    fresh: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index, event in enumerate(arrivals):
        judgement = judge(memory, event, max_event_age_us=max_event_age_us, erased_until_us=erased_until_us)
        if judgement.arrived_us != event.arrived_us:
            event = event._replace(arrived_us=judgement.arrived_us)
        verdicts.append(judgement.verdict)
        events.append(event)
        if judgement.differs:
            differing.append(index)
        if judgement.verdict is Verdict.ON_TIME and event.type is not EventType.IMPRESSION:
            fresh[0 if event.type is not EventType.BIOMETRIC else 1].append(index)
            if event.type is EventType.SEARCH:
                fresh[2].append(index)
    forget(memory, max_event_age_us)
    after = UserState(memory, state.taps, state.searches, state.samples)
    rows: dict[str, list[Row]] = {}
    rising: tuple[int, ...] = ()
    if fresh[0]:
        user_id = events[fresh[0][0]].user_id
        rows[SESSION_BOUNCE_RATES.name], after.taps = _taps(user_id, state, events, fresh[0], memory, since_us)
        after.searches = _without_stale(state.searches, memory)
    if fresh[2]:
        user_id = events[fresh[2][0]].user_id
        chosen = [events[i] for i in fresh[2]]
        rows[SEARCH_EMBEDDINGS.name], after.searches = _searches(user_id, state, chosen, encoder, since_us)
        after.searches = _without_stale(after.searches, memory)
    if fresh[1]:
        user_id = events[fresh[1][0]].user_id
        known = _unpack_samples(state.samples)
        merged = sorted([*known, *(biometrics.sample(events[i]) for i in fresh[1])], key=lambda one: one[:2])
        rows[BIOMETRICS.name] = biometrics.rows(user_id, merged, since_us=since_us)
        moments = {events[i].event_us: i for i in fresh[1]}
        rising = tuple(sorted(moments[us] for us in biometrics.turns_true(merged, set(moments))))
        after.samples = _pack_samples(biometrics.keep(merged, _floor(memory, Family.BIOMETRIC)))
    return StepOutcome(after, verdicts, events, rows, rising, tuple(differing))


def _floor(memory: Memory, kin: Family) -> int:
    """Return the time before which no event of the family can be on time any more."""
    newest = memory.newest_us[kin]
    assert newest is not None
    return newest - LATENESS_US


def _taps(
    user_id: str, state: UserState, events: Sequence[AppEvent], fresh: Sequence[int], memory: Memory, since_us: int
) -> tuple[list[Row], bytes]:
    session, tail = _unpack_taps(state.taps)
    taps = sorted([*tail, *(sessions.tap(events[i]) for i in fresh)])
    walked = sessions.walk(user_id, session, taps, since_us=since_us, floor_us=_floor(memory, Family.TAP))
    return walked.rows, _pack_taps(walked.session, walked.tail)


def _searches(
    user_id: str, state: UserState, events: Sequence[AppEvent], encoder: Encoder, since_us: int
) -> tuple[list[Row], bytes]:
    """Compute the rows of new searches. The floor is that of the newest search, so it moves only with searches."""
    vectors = encoder.encode([event.query or "" for event in events])
    new = [
        searches.Search(event.event_us, event_key(event.event_id), event.arrived_us, searches.embedding_bytes(vector))
        for event, vector in zip(events, vectors, strict=True)
    ]
    merged = sorted([*_unpack_searches(state.searches), *new])
    kept = searches.keep(merged, merged[-1].event_us - LATENESS_US)
    return searches.rows(user_id, merged, since_us=since_us), _pack_searches(kept)


def _without_stale(packed: bytes, memory: Memory) -> bytes:
    """Return the searches, or nothing once the newest has left every window that can still get a row."""
    if packed:
        newest: int = msgpack.unpackb(packed[:9])
        if newest <= _floor(memory, Family.TAP) - _SEARCH_WINDOW_US:
            return b""
    return packed


def _pack_taps(session: sessions.Session | None, tail: Sequence[sessions.Tap]) -> bytes:
    base = tail[0].event_us if tail else 0
    head = None
    if session is not None:
        marks = bytes(session.plays.values())
        head = (session.first_us, session.last_us, session.newest_arrival_us, list(session.plays), marks)
    short = [
        (
            one.event_us - base,
            one.action,
            one.arrived_us - base,
            *((one.key, one.play_id, one.sleep) if one.action != sessions.OTHER else ()),
        )
        for one in tail
    ]
    packed: bytes = msgpack.packb((base, head, short))
    return packed


def _unpack_taps(packed: bytes) -> tuple[sessions.Session | None, list[sessions.Tap]]:
    if not packed:
        return None, []
    base, head, short = msgpack.unpackb(packed)
    session = None
    if head is not None:
        first, last, newest, plays, marks = head
        counts = [marks.count(mark) for mark in range(4)]
        session = sessions.Session(first, last, newest, dict(zip(plays, marks, strict=True)), counts)
    tail = [
        sessions.Tap(
            base + us,
            action,
            *((rest[0], base + arrived, rest[1], rest[2]) if rest else (b"", base + arrived, "", False)),
        )
        for us, action, arrived, *rest in short
    ]
    return session, tail


def _pack_searches(kept: Sequence[searches.Search]) -> bytes:
    """Pack searches behind the newest one's time, which takes nine bytes."""
    newest = kept[-1].event_us
    head = b"\xd3" + newest.to_bytes(8, "big", signed=True)
    body: bytes = msgpack.packb([(newest - s.event_us, s.arrived_us - newest, s.key, s.embedding) for s in kept])
    return head + body


def _unpack_searches(packed: bytes) -> list[searches.Search]:
    if not packed:
        return []
    newest = int.from_bytes(packed[1:9], "big", signed=True)
    return [
        searches.Search(newest - age, key, newest + arrived, embedding)
        for age, arrived, key, embedding in msgpack.unpackb(packed[9:])
    ]


def _pack_samples(kept: Sequence[biometrics.Sample]) -> bytes:
    base = kept[0].event_us
    packed: bytes = msgpack.packb((base, [(s[0] - base, s[1] - base, s[2], s[3]) for s in kept]))
    return packed


def _unpack_samples(packed: bytes) -> list[biometrics.Sample]:
    if not packed:
        return []
    base, short = msgpack.unpackb(packed)
    return [biometrics.Sample(base + us, base + arrived, rate, steps) for us, arrived, rate, steps in short]
