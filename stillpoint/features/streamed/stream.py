"""What follows from a user's events in the running stream, by the definitions of the app that it was started with."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from stillpoint.app.durations import micros
from stillpoint.app.events import Arrival, Event
from stillpoint.app.fields import fields_of
from stillpoint.app.load import App
from stillpoint.app.records import View
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.recorded import RecordedEvents, event_columns
from stillpoint.events.types import Verdict
from stillpoint.features.columns import rows_table
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.engine import Engine, section_name
from stillpoint.features.streamed.isolation import IsolatedEvent
from stillpoint.features.streamed.reach import reach
from stillpoint.features.streamed.state import Section, UserState

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder


class StepOutcome(NamedTuple):
    """What follows from a user's arrivals; see `engine.Outcome`. `events` carry the arrival that the lake stores.

    `keyed` are the on-time events of views whose keys belong to no single user, by view and key.
    """

    state: UserState
    verdicts: list[Verdict]
    events: list[Arrival]
    rows: dict[str, list[Row]]
    turned: dict[str, tuple[int, ...]]
    differing: tuple[int, ...]
    keyed: dict[str, dict[Key, list[Arrival]]]
    isolated: list[IsolatedEvent]


class AppStream:
    """An app's streamed views over the events of the stream."""

    def __init__(
        self, app: App, *, encoder: "Encoder | None", max_event_age_us: int, sections: Collection[str] | None = None
    ) -> None:
        """Compile the app's views, or those alone whose `sections` are given: the others have not joined yet."""
        self.app = app
        self.max_event_age_us = max_event_age_us
        chosen = [view for view in app.views if sections is None or section_name(view) in sections]
        self.engine = Engine(chosen, max_event_age_us=max_event_age_us, encoder=encoder)
        self.reach = reach(app.views)
        self.parser = PayloadParser(app.events)
        self.columns = event_columns(app.events)
        self.recorded = RecordedEvents(app.events)
        self._typed = {event: _typed_by_users(event) for event in app.events}
        self._records = {one.name: one for one in app.records}

    def tables(self, rows: Mapping[str, Sequence[Row]]) -> dict[str, tuple[View, pa.Table]]:
        """Return rows by view as tables, each with the view's record; views without rows are left out."""
        named = {name: self._records[name] for name, found in rows.items() if found}
        return {name: (view, rows_table(view, rows[name])) for name, view in named.items()}

    @property
    def sections(self) -> frozenset[str]:
        """The names under which states of users and keys keep the views."""
        views = (*self.engine.of_users, *self.engine.of_others.values())
        return frozenset(view.section for view in views)

    @property
    def sections_of_version_one(self) -> frozenset[str]:
        """Those that a state of version 1 fills."""
        one = self.app.version_one
        return frozenset() if one is None else frozenset(name for name, _, _ in one.sections)

    def state(self, data: bytes) -> UserState:
        """Return a stored state, of this version or of the first.

        Raises:
            CorruptData: the bytes are no state.
        """
        return UserState.from_bytes(data, self.app.version_one)

    def with_sections(self, data: bytes, joined: dict[str, Section]) -> bytes:
        """Return a stored state with the sections of views that have joined, in place of older ones."""
        state = self.state(data)
        return UserState(state.memory, state.sections | joined).to_bytes()

    def expires_us(self, state: UserState) -> int:
        """Return the arrival time from which an empty state gives the same verdicts and rows as this one.

        States last at least for the longest window after their newest event, so that the lake says who must have one.
        """
        memory = state.memory
        times = [*memory.newest_us.values(), *(known.event_us for known in memory.remembered.values())]
        newest = max(times, default=0) + micros(self.reach) + 1
        until = max((section.until_us for section in state.sections.values()), default=0)
        return max(max(newest, until) + self.max_event_age_us, (memory.last_arrived_us or 0) + 1)

    def texts(self, arrivals: Iterable[Arrival]) -> Iterator[str]:
        """Yield what users typed in some events: the texts that features may embed."""
        for arrival in arrivals:
            for name in self._typed.get(type(arrival.event), ()):
                text = getattr(arrival.event, name)
                if text is not None:
                    yield text

    def advance(
        self, state: UserState, events: Sequence[Arrival], *, erased_until_us: int | None = None
    ) -> StepOutcome:
        """Return what the events of one user, in shard order, lead to. `state` is not modified."""
        found = self.engine.advance(state, events, erased_until_us=erased_until_us)
        keyed = {}
        if self.engine.of_others:
            pairs = zip(found.arrivals, found.verdicts, strict=True)
            keyed = self.engine.regrouped(one for one, verdict in pairs if verdict is Verdict.ON_TIME)
        return StepOutcome(
            found.state,
            found.verdicts,
            found.arrivals,
            found.rows,
            found.turned,
            found.differing,
            keyed,
            found.isolated,
        )


def _typed_by_users(event: type[Event]) -> tuple[str, ...]:
    return tuple(name for name, field in fields_of(event).items() if field.letters == "visible")
