"""A view of declared features as a `Definition`: which rows do new events give, and what must be kept?

Rows are computed for the times that can still change. Events before the floor are settled: they stay as summaries, and
one by one only where a window's older edge is exact.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stillpoint.app.events import Arrival
from stillpoint.app.windows import Session

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder
from stillpoint.features.streamed import part as parts
from stillpoint.features.streamed.aggregations.embeddings import embedding_bytes
from stillpoint.features.streamed.aggregations.entries import Entries
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.part import Part
from stillpoint.features.streamed.plan import Plan
from stillpoint.features.streamed.rows import changed_rows
from stillpoint.features.streamed.settle import settle


class GenericView:
    """The rows of one compiled view. The encoder is needed only by features of embeddings."""

    def __init__(self, plan: Plan, encoder: "Encoder | None" = None) -> None:
        self._plan = plan
        self._encoder = encoder

    def unpack(self, data: bytes) -> Part:
        return parts.unpack(self._plan, data)

    def pack(self, part: Part) -> bytes:
        return parts.pack(self._plan, part)

    def reach_us(self, part: Part) -> int:
        newest = part.times[-1] if part.times else part.floor_us
        lengths = [w.gap_us if isinstance(w, Session) else w.length_us + (w.step_us or 0) for w in self._plan.windows]
        return newest + max(lengths, default=0) + 1

    def rows(self, key: Key, part: Part, fresh: Sequence[Arrival]) -> tuple[list[Row], Part]:
        if not fresh:
            return [], part
        self._take(part, fresh)
        times = sorted(arrival.event_us for arrival in fresh)
        return [(*key, *row) for row in changed_rows(self._plan, part, times)], part

    def _take(self, part: Part, fresh: Sequence[Arrival]) -> None:
        """Enter events into the columns, each in its place."""
        moments = [(arrival.event_us, arrival.arrived_us) for arrival in fresh]
        _merge_moments(part, moments)
        added: dict[int, list[tuple[int, bytes, Any]]] = {}
        for event, event_us, _, event_key in fresh:
            for place, take in self._plan.takes[type(event)]:
                value = take(event)
                if value is not None:
                    added.setdefault(place, []).append((event_us, event_key, value))
        for index, new in added.items():
            column = self._plan.columns[index]
            if column.encoded:
                new = self._encoded(new)
            _merge(part.columns[index].entries, new, column.ordered)

    def _encoded(self, new: list[tuple[int, bytes, Any]]) -> list[tuple[int, bytes, Any]]:
        if self._encoder is None:
            raise ValueError("a feature of embeddings needs an encoder, and none was given")
        vectors = self._encoder.encode([text for _, _, text in new])
        return [(time, key, embedding_bytes(vector)) for (time, key, _), vector in zip(new, vectors, strict=True)]

    def keep(self, part: Part, floor_us: int) -> Part:
        return settle(self._plan, part, floor_us)


def _merge_moments(part: Part, new: list[tuple[int, int]]) -> None:
    """Enter times and arrivals, sorted by time; of one time, as they arrived."""
    ordered = not part.times or new[0][0] >= part.times[-1]
    part.times += [time for time, _ in new]
    part.arrivals += [arrival for _, arrival in new]
    if not ordered or any(a[0] > b[0] for a, b in pairwise(new)):
        both = sorted(zip(part.times, part.arrivals, strict=True))
        part.times, part.arrivals = [time for time, _ in both], [arrival for _, arrival in both]


def _merge(entries: Entries, new: list[tuple[int, bytes, Any]], ordered: bool) -> None:
    """Enter events into a column, sorted by time, and by id where the order counts."""
    entries.changed()
    last = (entries.times[-1], entries.keys[-1] if ordered else b"") if entries.times else (-1, b"")
    for time, key, value in new:
        entries.times.append(time)
        entries.values.append(value)
        if ordered:
            entries.keys.append(key)
    rising = all(a[:2] <= b[:2] if ordered else a[0] <= b[0] for a, b in pairwise(new))
    if rising and (new[0][:2] if ordered else (new[0][0], b"")) >= last:
        return
    order = sorted(range(len(entries)), key=lambda i: (entries.times[i], entries.key(i)))
    entries.times = [entries.times[i] for i in order]
    entries.values = [entries.values[i] for i in order]
    entries.keys = [entries.keys[i] for i in order] if ordered else []
