"""Writes the daily views to the lake and to every colour in use."""

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.encoder import Encoder
from stillpoint.errors import InvalidInput
from stillpoint.features.daily import EVENTS_BEFORE, daily_tables, days_between
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter

Progress = Callable[[date, str, int], None]


def daily(
    lake: Lake,
    first: date,
    last: date,
    *,
    at: datetime,
    encoder: Encoder,
    writers: Mapping[str, OnlineWriter],
    progress: Progress = lambda day, view, rows: None,
) -> dict[str, int]:
    """Compute the daily views of days `first` to `last`, commit them, and write the last day's into each colour.

    Running it again gives equal rows. Online, the row of an earlier day never replaces that of a later day. Return the number of rows by view.

    Raises:
        InvalidInput: `last` has not begun at `at`, or `first` is after it; nothing was written.
    """
    _refuse_days(first, last, at)
    before = first - EVENTS_BEFORE
    events = lake.read("events", DateRange(before, last), where=pc.field("verdict") == "on_time")
    tables = daily_tables(
        days_between(first, last),
        events=events,
        users=lake.read("users"),
        catalogue=lake.read("catalogue"),
        encoder=encoder,
    )
    run = f"{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    files = []
    counts: dict[str, int] = {}
    newest: list[tuple[ViewLayout, pa.Table]] = []
    for day, view, table in tables:
        files.append(lake.write(feature_dataset(view), day, f"daily-{run}", table))
        counts[view.name] = counts.get(view.name, 0) + table.num_rows
        progress(day, view.name, table.num_rows)
        if day == last:
            newest.append((ViewLayout.of(view), table))
    lake.commit(Commit(writer=f"daily-{run}", sequence=0, at=at, files=tuple(files)))
    for writer in writers.values():
        for layout, table in newest:
            writer.write(layout, table)
    return counts


def _refuse_days(first: date, last: date, at: datetime) -> None:
    """Refuse a day that has not begun: its rows would count as newer than every row computed until then."""
    today = at.astimezone(UTC).date()
    if last > today:
        raise InvalidInput(f"day {last} has not begun: it is {today} in UTC; ask for days up to {today}")
    if first > last:
        raise InvalidInput(f"the first day {first} is after the last, {last}; give the earlier one first")
