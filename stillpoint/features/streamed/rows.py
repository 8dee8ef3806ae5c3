"""Which rows do a key's events give, at the times that new events can have changed?"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from stillpoint.app.windows import Session, Sliding
from stillpoint.features.streamed.definition import Row
from stillpoint.features.streamed.part import Part
from stillpoint.features.streamed.plan import Cut, Plan


def changed_rows(plan: Plan, part: Part, fresh: Sequence[int]) -> Iterator[Row]:
    """Yield time, created and values for each time that an event of the sorted times `fresh` can have changed.

    Created is the greatest arrival among the view's events in the widest of its windows.
    """
    times, arrivals, latest = part.times, part.arrivals, part.latest
    view = _View(plan, part)
    count, end, known = len(times), 0, 0
    while end < count:
        at_us = times[end]
        end += 1
        while end < count and times[end] == at_us:
            end += 1
        view.walk(at_us)
        while known < len(fresh) and fresh[known] <= at_us:
            known += 1
        if not known:
            continue
        edges = view.edges(at_us)
        widest = min(edges)
        if fresh[known - 1] <= widest:
            continue
        created = max(arrivals[bisect_right(times, widest, 0, end) : end])
        for time, arrival in latest:
            if time > widest:
                created = max(created, arrival)
                break
        yield (at_us, created, *view.values(at_us, edges))


class _View:
    """A part's windows as of a time that moves forward."""

    def __init__(self, plan: Plan, part: Part) -> None:
        self._plan = plan
        self._columns = part.columns
        self._times = [own.entries.times for own in part.columns]
        self._floor = part.floor_us
        self._settled = [bisect_left(times, part.floor_us) for times in self._times]
        self._starts = [0 if run is None else run[0] for run in part.sessions]
        self._lasts = [None if run is None else run[1] for run in part.sessions]
        self._going = [run is not None for run in part.sessions]
        self._sums: dict[tuple[int, int, int], Any] = {}

    def walk(self, at_us: int) -> None:
        """Go on to the view's next event, which may begin a session."""
        for place, gap in enumerate(self._plan.gaps):
            last = self._lasts[place]
            if last is None or at_us - last > gap:
                self._starts[place], self._going[place] = at_us, False
            self._lasts[place] = at_us

    def edges(self, at_us: int) -> list[int]:
        """Return the time after which each window's events count."""
        gaps = self._plan.gaps
        return [
            self._starts[gaps.index(window.gap_us)] - 1 if isinstance(window, Session) else window.edge(at_us)
            for window in self._plan.windows
        ]

    def values(self, at_us: int, edges: Sequence[int]) -> list[Any]:
        """Return the features' values, in their order."""
        ends = [bisect_right(times, at_us) for times in self._times]
        firsts = [
            bisect_right(self._times[column], edges[window], 0, ends[column]) for column, window in self._plan.runs
        ]
        sums = [self._sum(cut, firsts[cut.run], ends[cut.column], edges[cut.window], at_us) for cut in self._plan.cuts]
        values = []
        for aggregation, whole, newer, default in self._plan.features:
            found = sums[whole]
            if found is None and default is not None:
                values.append(default)
            else:
                values.append(aggregation.value(found, None if newer is None else sums[newer], at_us))
        return values

    def _sum(self, cut: Cut, first: int, end: int, edge: int, at_us: int) -> Any:
        """Return the summary of a cut's events, None if there is none."""
        entries = self._columns[cut.column].entries
        if cut.part != 1:
            window = self._plan.windows[cut.window]
            assert isinstance(window, Sliding), "a session has no halves: the app's check refuses it"
            edge = window.edge(at_us, cut.part)
            first = bisect_right(entries.times, edge, 0, end)
        lane = cut.lane
        base = None
        if lane is not None:
            if cut.gap is None:
                if edge < self._floor:
                    base = self._tiles(cut, lane, edge)
                    first = max(first, self._settled[cut.column])
            elif self._going[cut.gap]:
                base = self._columns[cut.column].sessions[lane]
                first = self._settled[cut.column]
        if first == end:
            return base
        found = cut.aggregation.summary(entries, first, end)
        return found if base is None else cut.aggregation.join(base, found)

    def _tiles(self, cut: Cut, lane: int, edge: int) -> Any:
        """Return the summary of the settled events after `edge`, which lies between two steps."""
        step = edge // cut.step_us
        known = (cut.column, lane, step)
        if known not in self._sums:
            tiles = self._columns[cut.column].tiles[lane]
            chosen = [summary for place, summary in tiles if place >= step]
            self._sums[known] = cut.aggregation.join_all(chosen) if chosen else None
        return self._sums[known]
