"""Parity: compares each served feature with its value recomputed from the events. (pure)

A served row holds its event time and its created time, which is the arrival of the last event that changed it. Recomputed with the stream's
code from the events that had arrived by then, the row must be equal. Rows from the stream follow from the events that the stream has read,
rows from a fill follow from all events in the lake; a row counts as explained if it follows from either.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from stillpoint.app.events import Arrival
from stillpoint.app.records import View
from stillpoint.clock import to_micros
from stillpoint.features.columns import rows_table
from stillpoint.features.streamed.history import AppHistory

EXAMPLES = 5
ABSENT = ("NOT_FOUND", "OUTSIDE_MAX_AGE")


@dataclass(frozen=True, slots=True)
class ServedView:
    """One view of one prediction's served row; `values` are as the served log keeps them."""

    user_id: str
    view: View
    served_at: datetime
    status: str
    event_time: datetime | None
    created: datetime | None
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExplainedRow:
    """A recomputed row: the expected values by feature, with its times."""

    event_time: datetime
    created: datetime
    values: Mapping[str, Any]


@dataclass(slots=True)
class FeatureCount:
    """One feature's counts. `missing`: in the lake but not served; `extra`: served, but not explained by the lake."""

    compared: int = 0
    equal: int = 0
    mismatched: int = 0
    missing: int = 0
    extra: int = 0
    largest_difference: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def unexplained(self) -> int:
        return self.mismatched + self.missing + self.extra


@dataclass(slots=True)
class ParityTally:
    """The sums of a comparison. For `lagging` rows a newer row had arrived before serving; `stale` are those beyond the limit."""

    features: dict[str, FeatureCount] = field(default_factory=dict)
    lagging: int = 0
    stale: int = 0
    longest_lag_seconds: float = 0.0
    stale_examples: list[str] = field(default_factory=list)

    @property
    def unexplained(self) -> int:
        return sum(count.unexplained for count in self.features.values())

    def of(self, view: View, feature: str) -> FeatureCount:
        return self.features.setdefault(f"{view.name}:{feature}", FeatureCount())


def recomputed(view: View, events: Sequence[Arrival], arrived_by: datetime, history: AppHistory) -> list[ExplainedRow]:
    """Return a streamed view's rows of one user from the events that had arrived by `arrived_by`, in order of event time."""
    limit = to_micros(arrived_by)
    rows = history.rows(view.name, [event for event in events if event.arrived_us <= limit])
    return [
        ExplainedRow(row["event_timestamp"], row["created_timestamp"], {name: row[name] for name in view.feature_names})
        for row in rows_table(view, rows).to_pylist()
    ]


def compare(tally: ParityTally, row: ServedView, explanations: Iterable[ExplainedRow | None]) -> None:
    """Add a served row to the sums. It counts as right if it equals any of `explanations`."""
    known = [one for one in explanations if one is not None]
    best = min(known, key=lambda one: _different(row, one), default=None)
    past = row.event_time is not None and row.view.ttl is not None and row.served_at - row.event_time > row.view.ttl
    for feature in row.view.feature_names:
        count = tally.of(row.view, feature)
        count.compared += 1
        served = row.values[feature]
        if past and served is not None:
            count.extra += 1
            _example(count, row, f"{_shown(served)} served {row.served_at - row.event_time} after it happened")  # type: ignore[operator]
        elif best is None:
            count.extra += 1
            _example(count, row, f"{_shown(served)} served, no event explains the row")
        elif same(served, best.values[feature]):
            count.equal += 1
        else:
            count.mismatched += 1
            count.largest_difference = max(count.largest_difference, difference(served, best.values[feature]))
            _example(count, row, f"{_shown(served)} served, {_shown(best.values[feature])} recomputed")


def absent(tally: ParityTally, row: ServedView, newest: ExplainedRow | None) -> None:
    """Add a view that was not served to the sums; `newest` is the row that had arrived in time, if any."""
    fresh = newest is not None and (row.view.ttl is None or row.served_at - newest.event_time <= row.view.ttl)
    for feature in row.view.feature_names:
        count = tally.of(row.view, feature)
        count.compared += 1
        if not fresh or newest is None or newest.values[feature] is None:
            count.equal += 1
        else:
            count.missing += 1
            _example(count, row, f"nothing served, {_shown(newest.values[feature])} had arrived")


def lag(tally: ParityTally, row: ServedView, newest: ExplainedRow | None, limit: timedelta) -> None:
    """Count that a newer row had arrived by the time of serving, and whether it was past the limit."""
    if newest is None or row.event_time is None or row.created is None:
        return
    if (newest.event_time, newest.created) <= (row.event_time, row.created):
        return
    seconds = (row.served_at - newest.created).total_seconds()
    tally.lagging += 1
    tally.longest_lag_seconds = max(tally.longest_lag_seconds, seconds)
    if seconds > limit.total_seconds():
        tally.stale += 1
        if len(tally.stale_examples) < EXAMPLES:
            text = f"{row.view.name} at {row.served_at:%H:%M:%S}: {seconds:.1f} s behind what had arrived"
            tally.stale_examples.append(text)


def same(served: Any, expected: Any) -> bool:
    """Return whether a served value equals the recomputed one, bit for bit; null equals only null."""
    if served is None or expected is None:
        return served is None and expected is None
    if isinstance(expected, list | np.ndarray):
        return bool(np.array_equal(np.asarray(served, np.float32), np.asarray(expected, np.float32), equal_nan=True))
    return bool(served == expected)


def difference(served: Any, expected: Any) -> float:
    """Return how far apart two values are: the largest absolute difference, infinite where they cannot be subtracted.

    >>> difference(0.25, 0.5), difference([1.0, 2.0], [1.0, 2.5]), difference(None, 1.0), difference("de", "en")
    (0.25, 0.5, inf, inf)
    """
    try:
        left, right = np.asarray(served, np.float64), np.asarray(expected, np.float64)
        if served is None or expected is None or left.shape != right.shape:
            return math.inf
        return float(np.max(np.abs(left - right), initial=0.0))
    except (TypeError, ValueError):
        return math.inf


def served_views(record: Mapping[str, Any], views: Mapping[str, View]) -> Iterable[ServedView]:
    """Return the views of one record of the served log, those that are not in `views` left out."""
    for one in record["views"]:
        if one["view"] in views:
            yield ServedView(
                user_id=record["user_id"],
                view=views[one["view"]],
                served_at=record["served_at"],
                status=one["status"],
                event_time=one["event_timestamp"],
                created=one["created_timestamp"],
                values=json.loads(one["values"]),
            )


def newest_of(rows: Iterable[ExplainedRow]) -> ExplainedRow | None:
    """Return the row that the online store would hold: the newest by event time, then created time."""
    return max(rows, key=lambda one: (one.event_time, one.created), default=None)


def at_moment(rows: Iterable[ExplainedRow], moment: datetime | None, created: datetime | None) -> ExplainedRow | None:
    """Return the row of exactly this event time and arrival, or None."""
    return next((one for one in rows if one.event_time == moment and one.created == created), None)


def _different(row: ServedView, known: ExplainedRow) -> int:
    return sum(not same(row.values[name], known.values[name]) for name in row.view.feature_names)


def _example(count: FeatureCount, row: ServedView, text: str) -> None:
    if len(count.examples) < EXAMPLES:
        moment = "no time" if row.event_time is None else f"{row.event_time:%Y-%m-%d %H:%M:%S.%f}"
        count.examples.append(f"{row.user_id}, {moment}: {text}")


def _shown(value: Any) -> str:
    return f"{len(value)} numbers" if isinstance(value, list | np.ndarray) else repr(value)
