"""The stream's one step over any views: a user's arrivals in; verdicts, rows and the next state out.

`advance` performs nothing and changes nothing, so it can be repeated. What a view keeps of a user stays packed until an
event of the view arrives. A view whose keys belong to no single user gets its on-time events through `regrouped`, and
`advance_key` computes them, key by key, wherever the events of one key come together.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from stillpoint.app.durations import hours, micros
from stillpoint.app.events import Arrival, Event
from stillpoint.app.views import CustomView, StreamView
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.definition import Definition, Key, Row, Turning
from stillpoint.features.streamed.generic import GenericView
from stillpoint.features.streamed.isolation import DefinitionFailed, Given, IsolatedEvent, checked_rows
from stillpoint.features.streamed.judging import Memory, forget, judge
from stillpoint.features.streamed.plan import compiled
from stillpoint.features.streamed.section import Kept
from stillpoint.features.streamed.state import Section, UserState
from stillpoint.features.streamed.stepped import SteppedView
from stillpoint.outages import outage

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder

_UNKNOWN = Section(0, b"")
SHARD_SKEW = hours(1)
"""How far shards may lag behind one another before an event is too old for a key that belongs to no single user."""


@dataclass(frozen=True, slots=True)
class Runner:
    """A view ready to run. `lateness` is that of each of its families.

    `gives` are its features if a function of a team's own computes some, whose values are looked at.
    """

    name: str
    section: str
    keys: tuple[str, ...]
    definition: Definition[Any]
    events: frozenset[type[Event]]
    lateness: Mapping[str, int | None]
    family_of: Mapping[type[Event], str]
    of_user: bool
    turning: Turning | None
    gives: tuple[Given, ...] = ()

    def rows(self, key: Key, packed: bytes, fresh: Sequence[Arrival]) -> tuple[list[Row], Any]:
        """Return the rows of a key's new events, and its part with them.

        Raises:
            DefinitionFailed: the definition raised, or gave what cannot be stored.
        """
        try:
            if self.gives:
                return checked_rows(self.definition, self.gives, key, packed, fresh)
            return self.definition.rows(key, self.definition.unpack(packed), fresh)
        except DefinitionFailed:
            raise
        except Exception as error:
            if outage(error) is not None:
                raise
            raise DefinitionFailed(f"{type(error).__name__}: {error}") from error

    def key(self, event: Event) -> Key | None:
        """Return the event's key, None if a part of it is absent."""
        values = tuple(getattr(event, name) for name in self.keys)
        return None if None in values else tuple(map(str, values))

    def floor_us(self, newest_us: Mapping[str, int], last_arrived_us: int, max_event_age_us: int) -> int:
        """Return the time before which no event of the view can be on time any more."""
        floors = []
        for family, lateness in self.lateness.items():
            newest = newest_us.get(family)
            known = newest is not None and lateness is not None
            floors.append(newest - lateness if known else last_arrived_us - max_event_age_us)  # type: ignore[operator]
        return min(floors)


class Outcome(NamedTuple):
    """What follows from a user's arrivals.

    `verdicts` and `arrivals` are one per arrival, in order; an arrival's time is the strictly increasing one that the
    lake stores. `rows` are by view. `turned` are by `view.flag` the indices of the arrivals that turned it true, `differing`
    those of the duplicates whose payload differs from the first. `isolated` are the events that a view is without.
    """

    state: UserState
    verdicts: list[Verdict]
    arrivals: list[Arrival]
    rows: dict[str, list[Row]]
    turned: dict[str, tuple[int, ...]]
    differing: tuple[int, ...]
    isolated: list[IsolatedEvent]


class KeyOutcome(NamedTuple):
    """What follows from events of one key: its rows, its next state, and the arrival from which on it may be dropped.

    `behind` is the span of times whose rows may have changed although the state no longer keeps what they need, since
    shards lagged behind one another for longer than allowed: those rows must be computed from the lake.
    """

    rows: list[Row]
    state: bytes
    until_us: int
    behind: tuple[int, int] | None


class _Step(NamedTuple):
    """One key's rows, its packed part behind the time from which on it does not matter, and what turned its flags."""

    rows: list[Row]
    part: tuple[int, bytes]
    turned: dict[str, list[Arrival]]


class Engine:
    """The views of an app, compiled."""

    def __init__(
        self,
        views: Iterable[type[StreamView]],
        *,
        max_event_age_us: int,
        encoder: "Encoder | None" = None,
        shard_skew_us: int = micros(SHARD_SKEW),
    ) -> None:
        self._max_age = max_event_age_us
        self._skew = shard_skew_us
        runners = [runner(view, encoder) for view in views]
        self.of_users = tuple(one for one in runners if one.of_user)
        self.of_others = {one.name: one for one in runners if not one.of_user}

    def advance(self, state: UserState, arrivals: Sequence[Arrival], *, erased_until_us: int | None = None) -> Outcome:
        """Return what the arrivals of one user, in shard order, lead to. `state` is not modified.

        A view gets a row for each time that an arrival can have changed, with its values after all of them. Where its
        definition fails, the events with which it does are left out of it, and the rest goes on.
        """
        memory = state.memory.copy()
        verdicts, judged, differing = self._judge(memory, arrivals, erased_until_us)
        forget(memory, self._max_age)
        on_time = [one for one, verdict in zip(judged, verdicts, strict=True) if verdict is Verdict.ON_TIME]
        sections = dict(state.sections)
        rows: dict[str, list[Row]] = {}
        turned: dict[str, tuple[int, ...]] = {}
        isolated: list[IsolatedEvent] = []
        for view in self.of_users:
            fresh = [one for one in on_time if type(one.event) in view.events]
            known = sections.get(view.section, _UNKNOWN)
            if fresh:
                found, known, flags, failed = self._advance_section(view, known.data, fresh)
                isolated += failed
                sections[view.section] = known
                if found:
                    rows[view.name] = found
                for flag, changed in flags.items():
                    chosen = {id(one) for one in changed}
                    turned[flag] = tuple(index for index, one in enumerate(judged) if id(one) in chosen)
            if known.data and self._floor(view, memory.newest_us, memory.last_arrived_us or 0) >= known.until_us:
                del sections[view.section]
        self._drop_left(sections, memory.last_arrived_us or 0)
        return Outcome(UserState(memory, sections), verdicts, judged, rows, turned, differing, isolated)

    def _drop_left(self, sections: dict[str, Section], last_arrived_us: int) -> None:
        """Drop what views have left behind that are not computed here, once no later row of theirs could need it."""
        own = {view.section for view in self.of_users}
        for name in [name for name in sections if name not in own]:
            if sections[name].until_us <= last_arrived_us - self._max_age:
                del sections[name]

    def _judge(
        self, memory: Memory, arrivals: Sequence[Arrival], erased_until_us: int | None
    ) -> tuple[list[Verdict], list[Arrival], tuple[int, ...]]:
        verdicts, judged, differing = [], [], []
        for index, arrival in enumerate(arrivals):
            judgement = judge(memory, arrival, max_event_age_us=self._max_age, erased_until_us=erased_until_us)
            if judgement.arrived_us != arrival.arrived_us:
                arrival = arrival._replace(arrived_us=judgement.arrived_us)
            verdicts.append(judgement.verdict)
            judged.append(arrival)
            if judgement.differs:
                differing.append(index)
        return verdicts, judged, tuple(differing)

    def _advance_section(
        self, view: Runner, packed: bytes, fresh: Sequence[Arrival]
    ) -> tuple[list[Row], Section, dict[str, list[Arrival]], list[IsolatedEvent]]:
        """Advance all keys of one user's view that have events.

        Return also, by flag, the events that turned it true, and those with which its definition failed.
        """
        kept = Kept.unpack(packed)
        kept.take(fresh, view.family_of)
        floor_us = max(kept.floor_us, self._floor(view, kept.newest_us, kept.last_arrived_us))
        rows: list[Row] = []
        turned: dict[str, list[Arrival]] = {}
        isolated: list[IsolatedEvent] = []
        for key, own in by_key(view.key, fresh).items():
            rest = key if len(key) > 1 else ()
            try:
                steps = [self._step(view, key, kept.part(rest), own, floor_us)]
                kept.parts[rest] = steps[0].part
            except DefinitionFailed:
                steps = list(self._one_by_one(view, key, kept, own, floor_us, isolated))
            for step in steps:
                rows += step.rows
                for flag, changed in step.turned.items():
                    turned.setdefault(flag, []).extend(changed)
        kept.settle(floor_us)
        return rows, Section(kept.until_us, kept.pack()), turned, isolated

    def _one_by_one(
        self,
        view: Runner,
        key: Key,
        kept: Kept,
        fresh: Sequence[Arrival],
        floor_us: int,
        isolated: list[IsolatedEvent],
    ) -> Iterator[_Step]:
        """Advance a key by one event after the other, and leave out those with which the definition fails."""
        rest = key if len(key) > 1 else ()
        for one in fresh:
            try:
                step = self._step(view, key, kept.part(rest), [one], floor_us)
            except DefinitionFailed as failed:
                isolated.append(IsolatedEvent(view.name, one, str(failed)))
            else:
                kept.parts[rest] = step.part
                yield step

    def _step(self, view: Runner, key: Key, packed: bytes, fresh: Sequence[Arrival], floor_us: int) -> _Step:
        rows, part = view.rows(key, packed, fresh)
        try:
            turned = _turned(view, part, fresh)
            part = view.definition.keep(part, floor_us)
            return _Step(rows, (view.definition.reach_us(part), view.definition.pack(part)), turned)
        except Exception as error:
            if outage(error) is not None:
                raise
            raise DefinitionFailed(f"{type(error).__name__}: {error}") from error

    def _floor(self, view: Runner, newest_us: Mapping[str, int], last_arrived_us: int) -> int:
        return view.floor_us(newest_us, last_arrived_us, self._max_age)

    def regrouped(self, on_time: Iterable[Arrival]) -> dict[str, dict[Key, list[Arrival]]]:
        """Return on-time events by view and key, for the views whose keys belong to no single user."""
        listed = list(on_time)
        found = {}
        for view in self.of_others.values():
            groups = by_key(view.key, (one for one in listed if type(one.event) in view.events))
            if groups:
                found[view.name] = groups
        return found

    def advance_view(self, view: Runner, known: Section | None, fresh: Sequence[Arrival]) -> tuple[list[Row], Section]:
        """Return what on-time events of one user lead to in one view alone: for a view that joins.

        They are in the order of their time, or in that of their arrival; none of them may be in `known` already.
        """
        rows, section, _, _ = self._advance_section(view, (known or _UNKNOWN).data, fresh)
        return rows, section

    def advance_key(
        self, name: str, key: Key, state: bytes, fresh: Sequence[Arrival], *, before_us: int | None = None
    ) -> KeyOutcome:
        """Return what on-time events of one key lead to, whatever the order in which their users' events came.

        Events from `before_us` on may still follow, however late their arrival, if it is given.
        """
        view = self.of_others[name]
        kept = Kept.unpack(state)
        settled_us = kept.floor_us
        kept.take(fresh, view.family_of)
        floor_us = max(settled_us, kept.last_arrived_us - self._max_age - self._skew)
        if before_us is not None:
            floor_us = max(settled_us, min(floor_us, before_us))
        rows, kept.parts[()], _ = self._step(view, key, kept.part(()), fresh, floor_us)
        kept.settle(floor_us)
        place = len(key)
        whole = [row for row in rows if row[place] >= settled_us]
        older = [row[place] for row in rows if row[place] < settled_us]
        behind = (min(older), settled_us - 1) if older else None
        return KeyOutcome(whole, kept.pack(), kept.until_us + self._max_age + self._skew, behind)


def _turned(view: Runner, part: Any, fresh: Sequence[Arrival]) -> dict[str, list[Arrival]]:
    """Return by flag the events that turned it true; of several at one moment, the last."""
    if view.turning is None:
        return {}
    at = {one.event_us: one for one in fresh}
    found = view.turning.turned(part, set(at))
    return {f"{view.name}.{flag}": [at[us] for us in sorted(moments)] for flag, moments in found.items() if moments}


def runner(view: type[StreamView], encoder: "Encoder | None" = None) -> Runner:
    """Return a view ready to run."""
    events = view.event_types()
    step_us = view.step_us()
    definition: Definition[Any]
    if issubclass(view, CustomView):
        definition = view.makes(encoder)
    elif step_us is None:
        definition = GenericView(compiled(view), encoder)
    else:
        definition = SteppedView(compiled(view), step_us, encoder)
    return Runner(
        name=view.name,
        section=section_name(view),
        keys=view.entity.keys,
        definition=definition,
        events=frozenset(events),
        lateness={event.family.name: event.family.lateness_us for event in events},
        family_of={event: event.family.name for event in events},
        of_user=view.entity.of_user,
        turning=definition if isinstance(definition, Turning) else None,
        gives=_looked_at(view),
    )


def _looked_at(view: type[StreamView]) -> tuple[Given, ...]:
    """Return a view's features if a function of a team's own computes any, else none."""
    if issubclass(view, CustomView):
        return tuple(Given(feature.name, feature.dtype) for feature in view.described)
    features = view.features()
    if not any(feature.aggregation.name == "own" for feature in features):
        return ()
    kinds = ((one, one.field.kind if one.field else None) for one in features)
    return tuple(Given(one.name, one.aggregation.dtype(kind)) for one, kind in kinds)


def section_name(view: type[StreamView]) -> str:
    """Return under which name a user's state keeps a view: a changed definition does not meet the old one's memory."""
    return f"{view.name}@{view.digest()[:12]}"


def by_key(key: Callable[[Event], Key | None], arrivals: Iterable[Arrival]) -> dict[Key, list[Arrival]]:
    """Return events by key, in their order; those without a key are left out."""
    found: dict[Key, list[Arrival]] = {}
    for arrival in arrivals:
        own = key(arrival.event)
        if own is not None:
            found.setdefault(own, []).append(arrival)
    return found
