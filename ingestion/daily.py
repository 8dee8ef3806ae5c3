"""Writes the daily views to the lake and to every colour in use, a range of users at a time."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from stillpoint.encoder import Encoder
from stillpoint.errors import InvalidInput
from stillpoint.events.types import USER_COLUMNS, Verdict
from stillpoint.features.columns import feature_columns
from stillpoint.features.daily import (
    EVENTS_BEFORE,
    PLAY_COLUMNS,
    PLAY_TYPES,
    ContentDays,
    all_plays,
    days_between,
    users_days,
)
from stillpoint.features.declarations import CONTENT_PROFILES, DAILY_VIEWS, USER_PROFILES, USER_TASTE
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.sorted_rows import BUDGET, SortedRows, ranges_together
from stillpoint.lake.streaming import new_file, stream_rows
from stillpoint.lake.tables import Lake
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter

_DAYS_AT_ONCE = 31
_CATALOGUE_COLUMNS = ("content_id", "title", "category", "duration_seconds", "updated_at")

Progress = Callable[[date, str, int], None]


def daily(
    lake: Lake,
    first: date,
    last: date,
    *,
    at: datetime,
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
    contents = ContentDays(lake.read("catalogue", columns=_CATALOGUE_COLUMNS), encoder)
    files: list[CommittedFile] = []
    days = days_between(first, last)
    for start in range(0, len(days), _DAYS_AT_ONCE):
        files += _write_days(lake, days[start : start + _DAYS_AT_ONCE], run, contents, budget=budget, folder=folder)
    counts: dict[str, int] = dict.fromkeys((view.name for view in DAILY_VIEWS), 0)
    for file in files:
        name = file.dataset.removeprefix("features/")
        counts[name] += file.rows
        progress(file.date, name, file.rows)
    lake.commit(Commit(writer=run, sequence=0, at=at, files=tuple(files)))
    for view in DAILY_VIEWS:
        newest = [file for file in files if file.date == last and file.dataset == feature_dataset(view)]
        for rows in stream_rows(lake, newest, feature_columns(view)):
            for writer in writers.values():
                writer.write(ViewLayout.of(view), rows)
    return counts


def _write_days(
    lake: Lake, days: Sequence[date], run: str, contents: ContentDays, *, budget: int, folder: Path | None
) -> list[CommittedFile]:
    """Write a file per day and view. Users are taken in ranges of their ids, each small enough for memory."""
    plays: dict[date, pl.DataFrame] = {}
    with ExitStack() as stack:
        new = {
            (day, view): stack.enter_context(new_file(lake, feature_dataset(view), day, run, folder=folder))
            for day in days
            for view in DAILY_VIEWS
        }
        for events, users in _by_users(lake, days, budget=budget, folder=folder):
            for own in users_days(list(days), events=events, users=users):
                new[own.day, USER_PROFILES].add(own.profiles)
                new[own.day, USER_TASTE].add(own.taste)
                before = [plays[own.day]] if own.day in plays else []
                plays[own.day] = all_plays([*before, own.plays])
        for day in days:
            new[day, CONTENT_PROFILES].add(contents.table(day, plays[day]))
        return [
            CommittedFile(dataset=feature_dataset(view), date=day, path=file.key, rows=file.finish())
            for (day, view), file in new.items()
        ]


def _by_users(
    lake: Lake, days: Sequence[date], *, budget: int, folder: Path | None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield plays before the days' ends and rows of users, a range of users at a time, in the order of their ids."""
    wanted = (pc.field("verdict") == Verdict.ON_TIME) & pc.field("type").isin([str(kind) for kind in PLAY_TYPES])
    dates = DateRange(days[0] - EVENTS_BEFORE, days[-1])
    of_users = pa.schema([field for field in USER_COLUMNS if field.name != "push_opt_in"])
    with (
        SortedRows(PLAY_COLUMNS, ("user_id",), budget=budget, folder=folder) as events,
        SortedRows(of_users, ("user_id",), budget=budget, folder=folder) as users,
    ):
        for rows in stream_rows(lake, lake.files("events", dates), PLAY_COLUMNS, where=wanted):
            events.add(rows)
        for rows in stream_rows(lake, lake.files("users"), of_users):
            users.add(rows)
        for own in ranges_together(events, users):
            yield own[0], own[1]


def _refuse_days(first: date, last: date, at: datetime) -> None:
    """Refuse a day that has not begun: its rows would count as newer than every row computed until then."""
    today = at.astimezone(UTC).date()
    if last > today:
        raise InvalidInput(f"day {last} has not begun: it is {today} in UTC; ask for days up to {today}")
    if first > last:
        raise InvalidInput(f"the first day {first} is after the last, {last}; give the earlier one first")
