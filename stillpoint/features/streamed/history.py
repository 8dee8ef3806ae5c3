"""Which rows do recorded on-time events give, over whole histories? (backfill, parity, the past of a view that joins)

The same definitions as the stream's. Events are taken in the order of their time, a stretch at a time, and settled
behind it, so that a row of a 30-day window costs a month of summaries and not a month of events.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from logging import getLogger
from typing import TYPE_CHECKING, Any

from stillpoint.app.events import Arrival
from stillpoint.app.load import App
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.engine import Runner, by_key, runner
from stillpoint.features.streamed.isolation import DefinitionFailed

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder

log = getLogger(__name__)

STRETCH = 256


class AppHistory:
    """An app's streamed views over recorded events."""

    def __init__(self, app: App, encoder: "Encoder | None" = None) -> None:
        """Compile the views. Only those with features of embeddings need the encoder."""
        self.app = app
        self._runners = {view.name: runner(view, encoder) for view in app.views}

    def rows(self, view: str, events: Iterable[Arrival]) -> list[Row]:
        """Return the newest rows of a view, as `history_rows` does."""
        if view not in self._runners:
            raise KeyError(f"view {view!r} is not streamed; streamed are {', '.join(self._runners)}")
        return history_rows(self._runners[view], events)


def history_rows(view: Runner, events: Iterable[Arrival], *, stretch: int = STRETCH) -> list[Row]:
    """Return the newest rows of a view, ordered by key and time.

    `events` are on-time events of any users in any order, with the arrivals of the lake, each once. Those of other types
    than the view's, or without its key, are ignored. The rows are the same for every length of a `stretch`.
    """
    chosen = (one for one in events if type(one.event) in view.events)
    found = ((key, rows_of_key(view, key, own, stretch=stretch)) for key, own in by_key(view.key, chosen).items())
    return list(chain.from_iterable(rows for _, rows in sorted(found)))


def rows_of_key(view: Runner, key: Key, events: Sequence[Arrival], *, stretch: int = STRETCH) -> list[Row]:
    """Return the newest row of each time of one key, in their order."""
    definition = view.definition
    ordered = sorted(events, key=lambda one: one.event_us)
    part = definition.unpack(b"")
    newest: dict[int, Row] = {}
    place = len(key)
    first = 0
    while first < len(ordered):
        end = min(first + stretch, len(ordered))
        while end < len(ordered) and ordered[end].event_us == ordered[end - 1].event_us:
            end += 1
        if view.gives:
            rows, part = _isolating(view, key, definition.pack(part), ordered[first:end])
        else:
            rows, part = definition.rows(key, part, ordered[first:end])
        newest.update((row[place], row) for row in rows)
        if end < len(ordered):
            part = definition.keep(part, ordered[end].event_us)
        first = end
    return [newest[time] for time in sorted(newest)]


def _isolating(view: Runner, key: Key, packed: bytes, events: Sequence[Arrival]) -> tuple[list[Row], Any]:
    """Return rows and part of a team's own definition; events with which it fails are left out, as in the stream."""
    try:
        return view.rows(key, packed, events)
    except DefinitionFailed as failed:
        log.warning("view %s fails for some events of one key, which it is without: %s", view.name, failed)
    rows: list[Row] = []
    for one in events:
        try:
            found, part = view.rows(key, packed, [one])
        except DefinitionFailed:
            continue
        rows += found
        packed = view.definition.pack(part)
    return rows, view.definition.unpack(packed)
