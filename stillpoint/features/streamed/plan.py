"""Which lists and summaries does a declared view need? Compiled once: features that look at the same events share them.

A *column* is a run of events with one value each; a *lane* sums up those of its events that can no longer change, by
steps (for long windows) or for the current session; a *cut* is a column as a window sees it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple, Union

import msgspec

from stillpoint.app.aggregations import Aggregated
from stillpoint.app.conditions import Condition, Field
from stillpoint.app.events import Event
from stillpoint.app.fields import fields_of
from stillpoint.app.views import StreamedFeature, StreamView
from stillpoint.app.windows import Session, Sliding, Window
from stillpoint.dtypes import Kind
from stillpoint.features.streamed.aggregations.contract import Aggregation

Take = Callable[[Event], Any]
"""Returns an event's value, or None if the event does not count."""


@dataclass(slots=True)
class Lane:
    """Summaries of settled events, by steps or (`step_us` None) for the session of `gap`."""

    aggregation: Aggregation[Any]
    step_us: int | None
    gap: int | None
    windows: list[Sliding] = field(default_factory=list)


@dataclass(slots=True)
class Column:
    """Events with a value each. `exact` are the windows for which events are kept one by one."""

    ordered: bool
    newest: int | None
    encoded: bool
    whole_events: bool = False
    decode: Callable[[bytes], Any] = msgspec.msgpack.decode
    exact: list[Sliding] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cut:
    """A column within a window, and what sums it up; `part` 2 is the newer half.

    Without a lane all of the window's events are in the column; `gap` is the place of a session's gap, `run` that of
    the column and window among the plan's runs.
    """

    column: int
    window: int
    part: int
    lane: int | None
    gap: int | None
    step_us: int
    run: int
    aggregation: Aggregation[Any]


class Computed(NamedTuple):
    """A feature's aggregation, the cuts that it takes and its value without any event."""

    aggregation: Aggregation[Any]
    whole: int
    newer: int | None
    default: Any


@dataclass(slots=True)
class Plan:
    """A view, compiled. `takes` says into which columns an event goes, with which value."""

    columns: list[Column] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    features: list[Computed] = field(default_factory=list)
    takes: dict[type[Event], list[tuple[int, Take]]] = field(default_factory=dict)
    gaps: list[int] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)


def compiled(view: type[StreamView]) -> Plan:
    """Return the plan of a view without faults."""
    plan = Plan()
    known: dict[object, int] = {}
    for feature in view.features():
        declared = feature.declared
        aggregation = feature.aggregation
        identity = (
            tuple(sorted(leaf.type_name for event in declared.events for leaf in event.leaves)),
            tuple(sorted(leaf.type_name for event in declared.of for leaf in event.leaves)),
            declared.field.name if isinstance(declared.field, Field) else declared.field,
            str(declared.told.get("where")),
            aggregation.ordered,
            aggregation.newest,
            declared.encoded,
            aggregation.name == "own",
        )
        if identity not in known:
            known[identity] = len(plan.columns)
            plan.columns.append(_column(declared, aggregation))
            _add_takes(plan, known[identity], declared)
        _add_feature(plan, known[identity], feature)
    for event in view.event_types():
        plan.takes.setdefault(event, [])
    return plan


def _column(declared: Aggregated, aggregation: Aggregation[Any]) -> Column:
    column = Column(aggregation.ordered, aggregation.newest, declared.encoded)
    if aggregation.name == "own":
        leaves = tuple(leaf for event in declared.events for leaf in event.leaves)
        column.whole_events = True
        column.decode = msgspec.msgpack.Decoder(Union[leaves]).decode  # noqa: UP007  made at run time
    return column


def _add_feature(plan: Plan, column: int, feature: StreamedFeature) -> None:
    aggregation, window = feature.aggregation, feature.window
    if window not in plan.windows:
        plan.windows.append(window)
        if isinstance(window, Session):
            plan.gaps.append(window.gap_us)
    lane = _lane(plan, plan.columns[column], aggregation, window)
    place = plan.windows.index(window)
    gap = plan.gaps.index(window.gap_us) if isinstance(window, Session) else None
    step = window.step_us if isinstance(window, Sliding) else None
    if (column, place) not in plan.runs:
        plan.runs.append((column, place))
    run = plan.runs.index((column, place))
    whole = _cut(plan, Cut(column, place, 1, lane, gap, step or 1, run, aggregation))
    newer = _cut(plan, Cut(column, place, 2, lane, gap, step or 1, run, aggregation)) if aggregation.halves else None
    default = feature.declared.told.get("default")
    plan.features.append(Computed(aggregation, whole, newer, default))


def _lane(plan: Plan, column: Column, aggregation: Aggregation[Any], window: Window) -> int | None:
    gap = plan.gaps.index(window.gap_us) if isinstance(window, Session) else None
    step = window.step_us if isinstance(window, Sliding) else None
    if isinstance(window, Sliding) and step is None:
        column.exact.append(window)
        return None
    known = [(lane.aggregation, lane.step_us, lane.gap) for lane in column.lanes]
    if (aggregation, step, gap) not in known:
        known.append((aggregation, step, gap))
        column.lanes.append(Lane(aggregation, step, gap))
    index = known.index((aggregation, step, gap))
    if isinstance(window, Sliding):
        column.lanes[index].windows.append(window)
    return index


def _cut(plan: Plan, cut: Cut) -> int:
    if cut not in plan.cuts:
        plan.cuts.append(cut)
    return plan.cuts.index(cut)


def _add_takes(plan: Plan, column: int, declared: Aggregated) -> None:
    where = declared.told.get("where")
    holds = where.compiled() if isinstance(where, Condition) else None
    base = {leaf for event in declared.of for leaf in event.leaves}
    hits = {leaf for event in declared.events for leaf in event.leaves}
    for leaf in sorted(base | hits, key=lambda one: one.type_name):
        if declared.of:
            name = str(declared.field)
            if leaf in base:
                plan.takes.setdefault(leaf, []).append((column, _paired(True, name)))
            if leaf in hits:
                plan.takes.setdefault(leaf, []).append((column, _filtered(_paired(False, name), holds)))
        else:
            plan.takes.setdefault(leaf, []).append((column, _filtered(_value(leaf, declared), holds)))


def _value(leaf: type[Event], declared: Aggregated) -> Take:
    if declared.aggregation.name == "own":
        return lambda event: event
    if not isinstance(declared.field, Field):
        return lambda event: True
    info = fields_of(leaf)[declared.field.name]
    get: Take = attrgetter(info.name)
    if info.kind is Kind.NUMBER:
        return lambda event: None if (found := get(event)) is None else found + 0.0
    if info.values is not None:
        return lambda event: None if (found := get(event)) is None else str(found)
    return get


def _paired(base: bool, name: str) -> Take:
    get = attrgetter(name)
    return lambda event: None if (found := get(event)) is None else (base, found)


def _filtered(take: Take, holds: Callable[[Any], bool] | None) -> Take:
    if holds is None:
        return take
    return lambda event: take(event) if holds(event) else None
