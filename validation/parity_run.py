"""Runs a parity check: reads served predictions, and the events and rows of the lake to compare them with.

A sample of the newest predictions is read, and the events of their users only. Streamed views are recomputed from events;
daily views and the id mapping are compared with the lake's rows of the same time and creation.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AwareDatetime, BaseModel, ConfigDict

from stillpoint.app.entities import user
from stillpoint.app.events import Arrival
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.app.records import Origin, View
from stillpoint.events.recorded import RecordedEvents
from stillpoint.events.types import HISTORY_SHARD
from stillpoint.features.streamed.history import AppHistory
from stillpoint.features.streamed.reach import reach
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.tables import Lake
from validation.parity import (
    ABSENT,
    ExplainedRow,
    ParityTally,
    ServedView,
    absent,
    at_moment,
    compare,
    lag,
    newest_of,
    recomputed,
    served_views,
)


class StalenessLimits(BaseModel):
    """The delay after which a newer row should have been served. Daily rows reach the online store by a batch job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streamed: timedelta = timedelta(seconds=5)
    daily: timedelta = timedelta(days=1)


class FeatureParity(BaseModel):
    """One feature's result; see `validation.parity.FeatureCount`."""

    model_config = ConfigDict(frozen=True)

    feature: str
    compared: int
    equal: int
    mismatched: int
    missing: int
    extra: int
    largest_difference: float
    examples: tuple[str, ...]


class ParityReport(BaseModel):
    """The result of a parity check. Without served predictions it is no pass.

    `rows` are the views' rows that these predictions used; `lagging` and `stale` are counted among them.
    """

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    predictions: int
    users: int
    rows: int
    unexplained: int
    lagging: int
    stale: int
    longest_lag_seconds: float
    stale_examples: tuple[str, ...]
    features: tuple[FeatureParity, ...]

    @property
    def passed(self) -> bool:
        return self.predictions > 0 and self.unexplained == 0 and self.stale == 0


@dataclass(frozen=True, slots=True)
class LakeRecords:
    """The lake's events and rows of the sampled users."""

    streamed: Mapping[str, Sequence[Arrival]]
    everything: Mapping[str, Sequence[Arrival]]
    stored: Mapping[tuple[str, str], Sequence[ExplainedRow]]


def check_parity(
    lake: Lake,
    *,
    at: datetime,
    history: AppHistory,
    first: date | None = None,
    release: str | None = None,
    sample: int = 1_000,
    limits: StalenessLimits | None = None,
) -> ParityReport:
    """Compare the newest `sample` predictions of the served log, since the day `first`, with the lake.

    With `release` only answers of that release are compared.
    """
    limits = limits or StalenessLimits()
    own = None if release is None else pc.field("release") == release
    served = lake.newest("served", sample, DateRange(first), columns=["user_id", "served_at", "views"], where=own)
    served = served.sort_by("served_at")
    chosen = served.slice(max(0, served.num_rows - sample)).to_pylist()
    user_views = {view.name: view for view in lake.features.views if view.entity == user}
    rows = [row for record in chosen for row in served_views(record, user_views)]
    recorded = RecordedEvents(history.app.events)
    known = _records(lake, rows, reach(history.app.views) + timedelta(days=1), recorded)
    tally = ParityTally()
    for row in rows:
        if row.view.origin is Origin.STREAMED:
            _streamed(tally, row, known, history, limits.streamed)
        else:
            _stored(tally, row, known, limits.daily)
    return ParityReport(
        at=at,
        predictions=len(chosen),
        users=len({record["user_id"] for record in chosen}),
        rows=len(rows),
        unexplained=tally.unexplained,
        lagging=tally.lagging,
        stale=tally.stale,
        longest_lag_seconds=tally.longest_lag_seconds,
        stale_examples=tuple(tally.stale_examples),
        features=tuple(
            FeatureParity(
                feature=name,
                compared=count.compared,
                equal=count.equal,
                mismatched=count.mismatched,
                missing=count.missing,
                extra=count.extra,
                largest_difference=count.largest_difference,
                examples=tuple(count.examples),
            )
            for name, count in sorted(tally.features.items())
        ),
    )


def metrics_text(report: ParityReport) -> str:
    """Return a report's counts in Prometheus' text format."""
    values = {
        "stillpoint_parity_predictions": report.predictions,
        "stillpoint_parity_unexplained": report.unexplained,
        "stillpoint_parity_stale": report.stale,
        "stillpoint_parity_checked_time_seconds": report.at.timestamp(),
    }
    return "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in values.items())


def _streamed(tally: ParityTally, row: ServedView, known: LakeRecords, history: AppHistory, limit: timedelta) -> None:
    streamed = known.streamed.get(row.user_id, ())
    in_time = newest_of(recomputed(row.view, streamed, row.served_at - limit, history))
    if row.status in ABSENT:
        absent(tally, row, in_time)
        return
    assert row.created is not None
    histories = (streamed, known.everything.get(row.user_id, ()))
    found = (recomputed(row.view, events, row.created, history) for events in histories)
    compare(tally, row, [at_moment(rows, row.event_time, row.created) for rows in found])
    lag(tally, row, newest_of(recomputed(row.view, streamed, row.served_at, history)), limit)


def _stored(tally: ParityTally, row: ServedView, known: LakeRecords, limit: timedelta) -> None:
    rows = known.stored.get((row.view.name, row.user_id), ())
    if (
        row.view == USER_SEQUENCE
    ):  # serving's guard checks the mapping version itself; here the row must be one of that mapping
        rows = [one for one in rows if one.values["mapping_version"] == row.values["mapping_version"]]
        if row.status not in ABSENT:
            compare(tally, row, [at_moment(rows, row.event_time, row.created)])
        return
    in_time = newest_of(one for one in rows if one.created <= row.served_at - limit)
    if row.status in ABSENT:
        absent(tally, row, in_time)
        return
    compare(tally, row, [at_moment(rows, row.event_time, row.created)])
    lag(tally, row, in_time, limit)


def _records(lake: Lake, rows: Sequence[ServedView], before: timedelta, recorded: RecordedEvents) -> LakeRecords:
    users = pa.array(sorted({row.user_id for row in rows}), pa.string())
    if not len(users):
        return LakeRecords({}, {}, {})
    streamed_rows = [row for row in rows if row.view.origin is Origin.STREAMED]
    oldest = min((row.event_time or row.served_at for row in streamed_rows), default=None)
    days = DateRange(None if oldest is None else (oldest - before).date())
    events = lake.read("events", days, where=pc.field("user_id").isin(users))
    from_stream = pc.not_equal(events["shard"], HISTORY_SHARD)
    stored: dict[tuple[str, str], list[ExplainedRow]] = defaultdict(list)
    for view in lake.features.views:
        if view.entity == user and view.origin is not Origin.STREAMED:
            for row in _rows_of(lake, view, users):
                values = {name: row[name] for name in view.feature_names}
                stored[view.name, row["user_id"]].append(
                    ExplainedRow(row["event_timestamp"], row["created_timestamp"], values)
                )
    return LakeRecords(_by_user(recorded, events.filter(from_stream)), _by_user(recorded, events), stored)


def _rows_of(lake: Lake, view: View, users: pa.Array) -> list[dict[str, Any]]:
    if view != USER_SEQUENCE:
        datasets = {feature_dataset(view)}
    else:
        datasets = {
            file.dataset for commit in lake.commits() for file in commit.files if file.dataset.startswith("mappings/")
        }
    found: list[dict[str, Any]] = []
    for dataset in sorted(datasets):
        found += lake.read(dataset, where=pc.field("user_id").isin(users)).to_pylist()
    return found


def _by_user(recorded: RecordedEvents, events: pa.Table) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = defaultdict(list)
    for event in recorded.on_time(events):
        found[event.user_id].append(event)
    return found
