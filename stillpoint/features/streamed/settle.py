"""What of a key's events must be kept, given that none before a floor can come any more?

Settled events go into the lanes' summaries. One by one stay those in a window with an exact older edge, or only the
newest few where no more can decide.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from stillpoint.app.windows import Session
from stillpoint.features.streamed.aggregations.entries import Entries
from stillpoint.features.streamed.part import ColumnPart, Part, Tiles
from stillpoint.features.streamed.plan import Column, Lane, Plan

Run = tuple[int, int]
"""The first and last time of a session's settled events."""


def settle(plan: Plan, part: Part, floor_us: int) -> Part:
    """Move the part's floor to `floor_us`, if that is later."""
    if floor_us <= part.floor_us:
        return part
    settled = bisect_left(part.times, floor_us)
    runs = [_run(run, part.times[:settled], gap, floor_us) for run, gap in zip(part.sessions, plan.gaps, strict=True)]
    for column, own in zip(plan.columns, part.columns, strict=True):
        _settle_column(column, own, part, runs, floor_us)
    edges = [window.edge(floor_us) for window in plan.windows if not isinstance(window, Session)]
    edges += [run[0] - 1 for run in runs if run is not None]
    part.latest = _latest(part, settled, min(edges, default=floor_us))
    part.sessions = list(runs)
    part.times, part.arrivals = part.times[settled:], part.arrivals[settled:]
    part.floor_us = floor_us
    return part


def _run(run: Run | None, times: Sequence[int], gap: int, floor_us: int) -> Run | None:
    """Return the session of the newest settled event, unless no later event can belong to it."""
    for time in times:
        run = (time, time) if run is None or time - run[1] > gap else (run[0], time)
    return None if run is None or floor_us - run[1] > gap else run


def _latest(part: Part, settled: int, edge: int) -> list[Run]:
    """Return the settled arrivals that a window beginning after `edge` may need: those later than all newer ones."""
    kept = list(part.latest)
    for time, arrival in zip(part.times[:settled], part.arrivals[:settled], strict=True):
        while kept and kept[-1][1] <= arrival:
            kept.pop()
        kept.append((time, arrival))
    return [one for one in kept if one[0] > edge]


def _settle_column(column: Column, own: ColumnPart, part: Part, runs: Sequence[Run | None], floor_us: int) -> None:
    entries = own.entries
    first, end = bisect_left(entries.times, part.floor_us), bisect_left(entries.times, floor_us)
    for index, lane in enumerate(column.lanes):
        if lane.gap is not None:
            own.sessions[index] = _session(lane, own.sessions[index], entries, first, end, part, runs)
        else:
            own.tiles[index] = _tiles(lane, own.tiles[index], entries, first, end, floor_us)
    start = bisect_right(entries.times, min((window.edge(floor_us) for window in column.exact), default=floor_us - 1))
    start = min(start, end)
    if column.newest is not None:
        start = max(start, end - column.newest)
    if start:
        own.entries = Entries(entries.times[start:], entries.values[start:], entries.keys[start:])


def _session(
    lane: Lane, kept: Any, entries: Entries, first: int, end: int, part: Part, runs: Sequence[Run | None]
) -> Any:
    """Return the summary of the settled events of the session that may go on."""
    place = lane.gap or 0
    run, before = runs[place], part.sessions[place]
    if run is None:
        return None
    if before is None or before[0] != run[0]:
        kept = None
        first = max(first, bisect_left(entries.times, run[0]))
    if first >= end:
        return kept
    found = lane.aggregation.summary(entries, first, end)
    return found if kept is None else lane.aggregation.join(kept, found)


def _tiles(lane: Lane, tiles: Tiles, entries: Entries, first: int, end: int, floor_us: int) -> Tiles:
    """Return the summaries by step, with newly settled events added and those dropped that no window reaches."""
    step_us = lane.step_us or 1
    added = list(tiles)
    for step, group in groupby(range(first, end), key=lambda i: (entries.times[i] - 1) // step_us):
        places = list(group)
        found = lane.aggregation.summary(entries, places[0], places[-1] + 1)
        if added and added[-1][0] == step:
            found = lane.aggregation.join(added.pop()[1], found)
        added.append((step, found))
    oldest = min(window.edge(floor_us) for window in lane.windows) // step_us
    if added and added[0][0] < oldest:
        added = [one for one in added if one[0] >= oldest]
    return lane.aggregation.compact(added) if first < end else added
