"""Writes the daily views to the lake and to every colour in use, a range of users at a time."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.app.entities import user
from stillpoint.app.load import App
from stillpoint.encoder import Encoder
from stillpoint.errors import InvalidInput
from stillpoint.events.recorded import event_columns
from stillpoint.events.types import Verdict
from stillpoint.features.columns import feature_columns
from stillpoint.features.daily import WholeDays, all_sums, days_between, event_types_of, reach_of, users_days
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.sorted_rows import BUDGET, SortedRows, ranges_together
from stillpoint.lake.streaming import new_file, stream_rows
from stillpoint.lake.tables import Lake
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter

_DAYS_AT_ONCE = 31

Progress = Callable[[date, str, int], None]


def daily(
    lake: Lake,
    first: date,
    last: date,
    *,
    at: datetime,
    app: App,
    encoder: Encoder,
    writers: Mapping[str, OnlineWriter],
    budget: int = BUDGET,
    folder: Path | None = None,
    progress: Progress = lambda day, view, rows: None,
) -> dict[str, int]:
    """Compute the daily views of days `first` to `last`, commit them, and write the last day's into each colour.

    Running it again gives equal rows. Online, the row of an earlier day never replaces that of a later day. Return the number of rows by view.
    Events and users may be larger than memory: ranges of about `budget` bytes are held at a time, the others lie in `folder`.

    Raises:
        InvalidInput: `last` has not begun at `at`, or `first` is after it; nothing was written.
    """
    _refuse_days(first, last, at)
    run = f"daily-{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    whole = WholeDays(app.daily_views, _tables(lake, app, of_users=False), encoder)
    files: list[CommittedFile] = []
    days = days_between(first, last)
    for start in range(0, len(days), _DAYS_AT_ONCE):
        files += _write_days(lake, days[start : start + _DAYS_AT_ONCE], run, app, whole, budget=budget, folder=folder)
    counts: dict[str, int] = dict.fromkeys((view.name for view in app.daily_views), 0)
    for file in files:
        name = file.dataset.removeprefix("features/")
        counts[name] += file.rows
        progress(file.date, name, file.rows)
    lake.commit(Commit(writer=run, sequence=0, at=at, files=tuple(files)))
    for view in lake.features.daily:
        newest = [file for file in files if file.date == last and file.dataset == feature_dataset(view)]
        for rows in stream_rows(lake, newest, feature_columns(view)):
            for writer in writers.values():
                writer.write(ViewLayout.of(view), rows)
    return counts


def _tables(lake: Lake, app: App, *, of_users: bool) -> dict[str, pa.Table]:
    return {table.name: lake.read(table.name) for table in app.tables if (table.entity == user) == of_users}


def _write_days(
    lake: Lake, days: Sequence[date], run: str, app: App, whole: WholeDays, *, budget: int, folder: Path | None
) -> list[CommittedFile]:
    """Write a file per day and view. Users are taken in ranges of their ids, each small enough for memory."""
    sums: dict[tuple[date, str], pl.DataFrame] = {}
    others = _tables(lake, app, of_users=False)
    by_name = {view.name: view for view in app.daily_views}
    with ExitStack() as stack:
        new = {
            (day, name): stack.enter_context(new_file(lake, feature_dataset(view.record), day, run, folder=folder))
            for day in days
            for name, view in by_name.items()
        }
        for events, of_users in _by_users(lake, days, app, budget=budget, folder=folder):
            for own in users_days(days, app.daily_views, events=events, tables={**others, **of_users}):
                for name, table in own.tables.items():
                    new[own.day, name].add(table)
                for name, part in own.sums.items():
                    before = [sums[own.day, name]] if (own.day, name) in sums else []
                    sums[own.day, name] = all_sums(by_name[name], [*before, part])
        for day in days:
            for view in whole.views:
                new[day, view.name].add(whole.table(view, day, sums[day, view.name]))
        return [
            CommittedFile(dataset=feature_dataset(by_name[name].record), date=day, path=file.key, rows=file.finish())
            for (day, name), file in new.items()
        ]


def _by_users(
    lake: Lake, days: Sequence[date], app: App, *, budget: int, folder: Path | None
) -> Iterator[tuple[pa.Table, dict[str, pa.Table]]]:
    """Yield events before the days' ends and rows of users, a range of users at a time, in the order of their ids."""
    types = event_types_of(app.daily_views)
    columns = pa.schema([field for field in event_columns(types) if field.name not in _UNREAD])
    wanted = (pc.field("verdict") == Verdict.ON_TIME) & pc.field("type").isin([one.type_name for one in types])
    dates = DateRange(days[0] - reach_of(app.daily_views), days[-1])
    tables = [table.name for table in app.tables if table.entity == user]
    schemas = {name: lake.open(name, lake.files(name)).schema for name in tables}
    with ExitStack() as stack:
        events = stack.enter_context(SortedRows(columns, ("user_id",), budget=budget, folder=folder))
        for rows in stream_rows(lake, lake.files("events", dates), columns, where=wanted):
            events.add(rows)
        of_users = []
        for name, schema in schemas.items():
            held = stack.enter_context(SortedRows(schema, ("user_id",), budget=budget, folder=folder))
            for rows in stream_rows(lake, lake.files(name), schema):
                held.add(rows)
            of_users.append(held)
        for own in ranges_together(events, *of_users):
            yield own[0], dict(zip(tables, own[1:], strict=True))


_UNREAD = frozenset({"shard", "sequence", "platform"})


def _refuse_days(first: date, last: date, at: datetime) -> None:
    """Refuse a day that has not begun: its rows would count as newer than every row computed until then."""
    today = at.astimezone(UTC).date()
    if last > today:
        raise InvalidInput(f"day {last} has not begun: it is {today} in UTC; ask for days up to {today}")
    if first > last:
        raise InvalidInput(f"the first day {first} is after the last, {last}; give the earlier one first")
