"""Computes the past of views that join: the lake's events lead to rows and to the states that the stream goes on from. (pure)

Events come in the order of their days; what was computed of a user or key lies in a `JoinMemory` between two days, so
memory does not grow with history. What arrived since then follows in the order of arrival, as in the stream.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from stillpoint.app.events import Arrival
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.engine import Engine, Runner, by_key
from stillpoint.features.streamed.state import Section


class KeyState(NamedTuple):
    """A key's state, and the arrival from which on it may be dropped."""

    data: bytes
    until_us: int


class JoinMemory(Protocol):
    """What has been computed so far of the users and keys of views that join."""

    def sections(self, view: Runner, users: Sequence[str]) -> dict[str, Section]:
        """Return the known users' sections."""

    def save_sections(self, view: Runner, sections: Mapping[str, Section]) -> None:
        """Keep the sections of users."""

    def keys(self, view: Runner, keys: Sequence[Key]) -> dict[Key, bytes]:
        """Return the known keys' states."""

    def save_keys(self, view: Runner, states: Mapping[Key, KeyState]) -> None:
        """Keep the states of keys."""


Older = Callable[[str, Key, tuple[int, int]], list[Row]]
"""Returns a key's rows of a span of times that its state no longer covers."""


def advance_past(
    engine: Engine, memory: JoinMemory, events: Iterable[Arrival], *, older: Older, before_us: int | None = None
) -> dict[str, list[Row]]:
    """Take on-time events into the memory of each view, and return the rows by view.

    With `before_us`, the start of a day, the events are history's: all of its days are taken in order, each user's
    events of a day at once. Without, they are taken in the order of their arrival.
    """
    listed = sorted(events, key=_time if before_us is not None else _arrival)
    rows = {}
    for view in engine.of_users:
        found = _of_users(engine, memory, view, [one for one in listed if type(one.event) in view.events])
        if found:
            rows[view.name] = found
    for name, groups in engine.regrouped(listed).items():
        rows[name] = _of_keys(engine, memory, engine.of_others[name], groups, before_us, older)
    return rows


def _of_users(engine: Engine, memory: JoinMemory, view: Runner, events: Sequence[Arrival]) -> list[Row]:
    users = by_key(lambda event: (event.user_id,), events)
    known = memory.sections(view, [user for (user,) in users])
    rows: list[Row] = []
    sections = {}
    for (user,), own in users.items():
        found, sections[user] = engine.advance_view(view, known.get(user), own)
        rows += found
    memory.save_sections(view, sections)
    return rows


def _of_keys(
    engine: Engine,
    memory: JoinMemory,
    view: Runner,
    groups: Mapping[Key, Sequence[Arrival]],
    before_us: int | None,
    older: Older,
) -> list[Row]:
    known = memory.keys(view, list(groups))
    rows: list[Row] = []
    states = {}
    for key, own in groups.items():
        found = engine.advance_key(view.name, key, known.get(key, b""), own, before_us=before_us)
        rows += found.rows
        if found.behind is not None:
            rows += older(view.name, key, found.behind)
        states[key] = KeyState(found.state, found.until_us)
    memory.save_keys(view, states)
    return rows


def _time(one: Arrival) -> tuple[int, int, bytes]:
    return one.event_us, one.arrived_us, one.key


def _arrival(one: Arrival) -> tuple[int, bytes]:
    return one.arrived_us, one.key
