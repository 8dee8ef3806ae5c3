"""What follows from a user's events in the running stream, by the definitions of the app that it was started with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from stillpoint.app.durations import micros
from stillpoint.app.load import App
from stillpoint.events.parsing import AppEvent
from stillpoint.events.typed import TypedEvents
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.definition import Row
from stillpoint.features.streamed.engine import Engine
from stillpoint.features.streamed.reach import reach
from stillpoint.features.streamed.state import UserState

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder


class StepOutcome(NamedTuple):
    """What follows from a user's arrivals; see `engine.Outcome`. `events` carry the arrival that the lake stores."""

    state: UserState
    verdicts: list[Verdict]
    events: list[AppEvent]
    rows: dict[str, list[Row]]
    turned: dict[str, tuple[int, ...]]
    differing: tuple[int, ...]


class AppStream:
    """An app's streamed views over the events of the stream."""

    def __init__(self, app: App, *, encoder: "Encoder | None", max_event_age_us: int) -> None:
        """Compile the views.

        Raises:
            InvalidInput: the stream does not read the app's events.
        """
        self.app = app
        self.max_event_age_us = max_event_age_us
        self.engine = Engine(app.views, max_event_age_us=max_event_age_us, encoder=encoder)
        self.reach = reach(app.views)
        self._typed = TypedEvents(app.name, app.events)

    @property
    def sections(self) -> frozenset[str]:
        """The names under which states keep the views."""
        return frozenset(view.section for view in self.engine.of_users)

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

    def expires_us(self, state: UserState) -> int:
        """Return the arrival time from which an empty state gives the same verdicts and rows as this one.

        States last at least for the longest window after their newest event, so that the lake says who must have one.
        """
        memory = state.memory
        times = [*memory.newest_us.values(), *(known.event_us for known in memory.remembered.values())]
        newest = max(times, default=0) + micros(self.reach) + 1
        until = max((section.until_us for section in state.sections.values()), default=0)
        return max(max(newest, until) + self.max_event_age_us, (memory.last_arrived_us or 0) + 1)

    def advance(
        self, state: UserState, events: Sequence[AppEvent], *, erased_until_us: int | None = None
    ) -> StepOutcome:
        """Return what the events of one user, in shard order, lead to. `state` is not modified.

        Raises:
            DefinitionFailed: a view's definition raised.
        """
        found = self.engine.advance(state, list(map(self._typed.arrival, events)), erased_until_us=erased_until_us)
        judged = [
            event if event.arrived_us == arrival.arrived_us else event._replace(arrived_us=arrival.arrived_us)
            for event, arrival in zip(events, found.arrivals, strict=True)
        ]
        return StepOutcome(found.state, found.verdicts, judged, found.rows, found.turned, found.differing)
