"""What a generic view keeps of one key, and its bytes."""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import msgspec

from stillpoint.features.streamed.aggregations.entries import Entries
from stillpoint.features.streamed.plan import Column, Lane, Plan

Tiles = list[tuple[int, Any]]
"""Summaries by step, oldest first. A step holds the events of (n · step, (n + 1) · step]."""


@dataclass(slots=True)
class ColumnPart:
    """A column's events that are still looked at one by one, and a lane's summaries of the settled ones.

    `stored` holds by lane and step a summary and what it was unpacked from: one that did not change is not packed again.
    """

    entries: Entries = field(default_factory=Entries)
    tiles: list[Tiles] = field(default_factory=list)
    sessions: list[Any] = field(default_factory=list)
    stored: list[dict[int, tuple[Any, Any]]] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """`times` and `arrivals` are those of the view's events from `floor_us` on: events before it are settled.

    `latest` holds settled events that arrived after all later ones: (time, arrival), times rising, arrivals falling.
    `sessions` are the first and last time of the settled part of the session of each gap, or None.
    """

    floor_us: int
    times: list[int]
    arrivals: list[int]
    latest: list[tuple[int, int]]
    sessions: list[tuple[int, int] | None]
    columns: list[ColumnPart]


def empty(plan: Plan) -> Part:
    """Return the part of an unknown key."""
    columns = [
        ColumnPart(Entries(), [[] for _ in column.lanes], [None for _ in column.lanes]) for column in plan.columns
    ]
    return Part(0, [], [], [], [None] * len(plan.gaps), columns)


def pack(plan: Plan, part: Part) -> bytes:
    """Return the part as bytes."""
    columns = [_packed(column, own) for column, own in zip(plan.columns, part.columns, strict=True)]
    gaps = [None if one is None else (one[0], one[1] - one[0]) for one in part.sessions]
    late = [(time - part.floor_us, arrival - time) for time, arrival in part.latest]
    behind = [arrival - time for time, arrival in zip(part.times, part.arrivals, strict=True)]
    return msgspec.msgpack.encode((part.floor_us, _steps(part.times, part.floor_us), behind, late, gaps, columns))


def unpack(plan: Plan, data: bytes) -> Part:
    """Return the part that `pack` packed."""
    if not data:
        return empty(plan)
    floor, steps, behind, late, gaps, packed = msgspec.msgpack.decode(data)
    times = _times(steps, floor)
    return Part(
        floor,
        times,
        [time + lag for time, lag in zip(times, behind, strict=True)],
        [(floor + age, floor + age + lag) for age, lag in late],
        [None if one is None else (one[0], one[0] + one[1]) for one in gaps],
        [_unpacked(column, own, floor) for column, own in zip(plan.columns, packed, strict=True)],
    )


def _packed(column: Column, own: ColumnPart) -> Any:
    """Values of a column that only counts are all True, and are not written."""
    entries = own.entries
    lanes: list[Any] = []
    for index, lane in enumerate(column.lanes):
        if lane.step_us is None:
            kept = own.sessions[index]
            lanes.append(None if kept is None else [lane.aggregation.pack(kept)])
        else:
            steps = _steps([step for step, _ in own.tiles[index]], 0)
            stored = own.stored[index] if own.stored else {}
            lanes.append((steps, [_packed_tile(lane, stored.get(step), one) for step, one in own.tiles[index]]))
    values: Any = entries.values
    if column.whole_events:
        values = [msgspec.msgpack.encode(event) for event in values]
    elif all(value is True for value in values):
        values = None
    base = entries.times[0] if entries.times else 0
    return base, _steps(entries.times, base), values, b"".join(entries.keys), lanes


def _unpacked(column: Column, packed: Any, floor: int) -> ColumnPart:
    base, steps, values, keys, lanes = packed
    times = _times(steps, base)
    if values is None:
        values = [True] * len(times)
    elif column.whole_events:
        values = [column.decode(data) for data in values]
    else:
        values = [tuple(value) if type(value) is list else value for value in values]
    own = ColumnPart(Entries(times, values, [keys[i : i + 16] for i in range(0, len(keys), 16)]))
    for lane, kept in zip(column.lanes, lanes, strict=True):
        tiles: Tiles = []
        session = None
        if lane.step_us is None:
            session = None if kept is None else lane.aggregation.unpack(kept[0])
        else:
            tiles = list(zip(_times(kept[0], 0), map(lane.aggregation.unpack, kept[1]), strict=True))
        own.stored.append(
            {step: (one, packed) for (step, one), packed in zip(tiles, kept[1] if tiles else (), strict=True)}
        )
        own.tiles.append(tiles)
        own.sessions.append(session)
    return own


def _packed_tile(lane: Lane, stored: tuple[Any, Any] | None, summary: Any) -> Any:
    """Return a summary packed. Summaries are never changed, so the same object has the same bytes."""
    if stored is not None and stored[0] is summary:
        return stored[1]
    return lane.aggregation.pack(summary)


def _steps(times: list[int], base: int) -> list[int]:
    return [time - before for before, time in zip([base, *times], times, strict=False)]


def _times(steps: list[int], base: int) -> list[int]:
    return list(accumulate(steps, initial=base))[1:]
