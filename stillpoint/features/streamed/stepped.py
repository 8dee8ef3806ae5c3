"""A view whose keys belong to no single user, as a `Definition`: a row per key and step, whatever the order of users.

Events reach such a key from many shards, so one may come after others that arrived later. All that a row depends on is
therefore kept by steps, to which an event can be added at any time, until it would be too old at its arrival. A row's
time is the end of its step. Its created time is the greatest arrival in the widest window plus a microsecond for each
further event there: it grows with every event that changes the row, and depends on no order.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from stillpoint.app.events import Arrival
from stillpoint.app.windows import Sliding

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.embeddings import embedding_bytes
from stillpoint.features.streamed.aggregations.entries import Entries
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.plan import Plan


@dataclass(slots=True)
class Series:
    """Summaries by the end of their step, sorted."""

    ends: list[int] = field(default_factory=list)
    summaries: list[Any] = field(default_factory=list)

    def add(self, end: int, summary: Any, aggregation: Aggregation[Any]) -> None:
        place = bisect_left(self.ends, end)
        if place < len(self.ends) and self.ends[place] == end:
            self.summaries[place] = aggregation.join(self.summaries[place], summary)
        else:
            self.ends.insert(place, end)
            self.summaries.insert(place, summary)

    def drop(self, edge: int) -> None:
        place = bisect_right(self.ends, edge)
        self.ends, self.summaries = self.ends[place:], self.summaries[place:]


@dataclass(slots=True)
class Steps:
    """Of each step with events: its end, the greatest arrival, the number of events; and a series per summary."""

    ends: list[int]
    arrivals: list[int]
    counts: list[int]
    series: list[Series]


class SteppedView:
    """The rows of one compiled view, by steps."""

    def __init__(self, plan: Plan, step_us: int, encoder: "Encoder | None" = None) -> None:
        self._plan = plan
        self._step = step_us
        self._encoder = encoder
        self._kinds = list(dict.fromkeys((cut.column, cut.aggregation) for cut in plan.cuts))
        self._series = [self._kinds.index((cut.column, cut.aggregation)) for cut in plan.cuts]
        self._windows = [window for window in plan.windows if isinstance(window, Sliding)]
        assert len(self._windows) == len(plan.windows), "sessions belong to users: the app's check refuses others"

    def unpack(self, data: bytes) -> Steps:
        if not data:
            return Steps([], [], [], [Series() for _ in self._kinds])
        ends, arrivals, counts, series = msgspec.msgpack.decode(data)
        unpacked = [
            Series([end * self._step for end in own], [aggregation.unpack(one) for one in summaries])
            for (_, aggregation), (own, summaries) in zip(self._kinds, series, strict=True)
        ]
        return Steps([end * self._step for end in ends], arrivals, counts, unpacked)

    def pack(self, part: Steps) -> bytes:
        series = [
            ([end // self._step for end in one.ends], [aggregation.pack(summary) for summary in one.summaries])
            for (_, aggregation), one in zip(self._kinds, part.series, strict=True)
        ]
        return msgspec.msgpack.encode(([end // self._step for end in part.ends], part.arrivals, part.counts, series))

    def reach_us(self, part: Steps) -> int:
        newest = part.ends[-1] if part.ends else 0
        return newest + max(window.length_us + (window.step_us or 0) for window in self._windows) + 1

    def rows(self, key: Key, part: Steps, fresh: Sequence[Arrival]) -> tuple[list[Row], Steps]:
        changed = sorted({self._end(arrival.event_us) for arrival in fresh})
        for arrival in fresh:
            self._add_moment(part, self._end(arrival.event_us), arrival.arrived_us)
        for column, entries in self._entries(fresh):
            for place, (own, aggregation) in enumerate(self._kinds):
                if own == column:
                    end = self._end(entries.times[0])
                    part.series[place].add(end, aggregation.summary(entries, 0, 1), aggregation)
        return [(*key, *row) for row in self._changed(part, changed)], part

    def keep(self, part: Steps, floor_us: int) -> Steps:
        edge = min(window.edge(floor_us) for window in self._windows)
        place = bisect_right(part.ends, edge)
        part.ends, part.arrivals, part.counts = part.ends[place:], part.arrivals[place:], part.counts[place:]
        for series in part.series:
            series.drop(edge)
        return part

    def _end(self, event_us: int) -> int:
        return -(-event_us // self._step) * self._step

    def _add_moment(self, part: Steps, end: int, arrived_us: int) -> None:
        place = bisect_left(part.ends, end)
        if place < len(part.ends) and part.ends[place] == end:
            part.arrivals[place] = max(part.arrivals[place], arrived_us)
            part.counts[place] += 1
        else:
            part.ends.insert(place, end)
            part.arrivals.insert(place, arrived_us)
            part.counts.insert(place, 1)

    def _entries(self, fresh: Sequence[Arrival]) -> Iterator[tuple[int, Entries]]:
        for event, event_us, _, event_key in fresh:
            for column, take in self._plan.takes[type(event)]:
                value = take(event)
                if value is not None:
                    if self._plan.columns[column].encoded:
                        value = self._encoded(value)
                    yield column, Entries([event_us], [value], [event_key])

    def _encoded(self, text: str) -> bytes:
        if self._encoder is None:
            raise ValueError("a feature of embeddings needs an encoder, and none was given")
        return embedding_bytes(self._encoder.encode([text])[0])

    def _changed(self, part: Steps, changed: Sequence[int]) -> Iterator[Row]:
        for place in range(bisect_left(part.ends, changed[0]), len(part.ends)):
            at_us = part.ends[place]
            edges = [window.edge(at_us) for window in self._windows]
            widest = min(edges)
            if changed[bisect_right(changed, at_us) - 1] <= widest:
                continue
            first = bisect_right(part.ends, widest)
            created = max(part.arrivals[first : place + 1]) + sum(part.counts[first : place + 1]) - 1
            yield (at_us, created, *self._values(part, at_us, edges))

    def _values(self, part: Steps, at_us: int, edges: Sequence[int]) -> Iterator[Any]:
        sums = []
        for cut, place in zip(self._plan.cuts, self._series, strict=True):
            series = part.series[place]
            edge = edges[cut.window] if cut.part == 1 else self._windows[cut.window].edge(at_us, cut.part)
            chosen = series.summaries[bisect_right(series.ends, edge) : bisect_right(series.ends, at_us)]
            sums.append(cut.aggregation.join_all(chosen) if chosen else None)
        for feature in self._plan.features:
            whole = sums[feature.whole]
            if whole is None and feature.default is not None:
                yield feature.default
            else:
                newer = None if feature.newer is None else sums[feature.newer]
                yield feature.aggregation.value(whole, newer, at_us)
