"""The daily views: what was known about users and contents at the start of a day.

Pure over tables. Day D (UTC) sees on-time events that happened and arrived before D 00:00, and the newest rows of users
and catalogue that were updated before it. Its rows carry D 00:00 as event and created timestamp, for history too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from stillpoint.encoder import Encoder
from stillpoint.events.types import TIMESTAMP, Category, EventType, Verdict
from stillpoint.features.columns import embeddings_array, feature_columns
from stillpoint.features.declarations import (
    CONTENT_PROFILES,
    POPULARITY_WINDOW,
    TASTE_WINDOW,
    USER_PROFILES,
    USER_TASTE,
    View,
)

NEW_DAYS, LOYAL_DAYS = 30, 365
EVENTS_BEFORE = TASTE_WINDOW
"""How far before the first day the events must reach."""


PLAY_COLUMNS = pa.schema(
    [
        pa.field("type", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("play_id", pa.string()),
        pa.field("event_id", pa.string()),
        pa.field("event_timestamp", TIMESTAMP),
        pa.field("arrived_at", TIMESTAMP),
        pa.field("category", pa.string()),
        pa.field("content_id", pa.string()),
    ]
)
"""The columns of events that the daily views read."""

PLAY_TYPES = (EventType.CONTENT_START, EventType.CONTENT_COMPLETE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersDay:
    """What some users add to a day: their rows of both views of users, and counts of plays per content."""

    day: date
    profiles: pa.Table
    taste: pa.Table
    plays: pl.DataFrame


def daily_tables(
    days: list[date], *, events: pa.Table, users: pa.Table, catalogue: pa.Table, encoder: Encoder
) -> Iterator[tuple[date, View, pa.Table]]:
    """Yield each day's rows of each daily view, in `feature_columns`, day by day in the order given.

    `events` must reach 30 days back from the first day; other types, verdicts and copies of a record are ignored. A user
    has a row of `user_taste` if `users` knows them or they played in the window. Counts are 0 and rates null without
    plays.
    """
    contents = ContentDays(catalogue, encoder)
    for own in users_days(days, events=events, users=users):
        yield own.day, USER_PROFILES, own.profiles
        yield own.day, USER_TASTE, own.taste
        yield own.day, CONTENT_PROFILES, contents.table(own.day, own.plays)


def users_days(days: list[date], *, events: pa.Table, users: pa.Table) -> Iterator[UsersDay]:
    """Yield what some users add to each day. `events` and `users` hold all rows of these users, and may hold no others.

    So the users of a lake may be taken in parts: their rows, part after part in the order of the users' ids, and the sums
    of their plays (`all_plays`) are what all users taken at once give.
    """
    plays, completions = _plays(events)
    user_rows = _frame(users)
    for day in days:
        midnight = _midnight(day)
        known = _newest(user_rows, "user_id", midnight)
        played = _played(plays, completions, midnight)
        yield UsersDay(
            day=day,
            profiles=_table(USER_PROFILES, _profiles(known, midnight), midnight),
            taste=_table(USER_TASTE, _taste(known, played), midnight),
            plays=_content_plays(played, midnight),
        )


def all_plays(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the plays per content of all users, of those that parts of the users have."""
    return pl.concat(parts).group_by("content_id").agg(pl.col("plays_7d", "plays_30d", "completed_30d").sum())


class ContentDays:
    """The contents' rows of days, with each title encoded once."""

    def __init__(self, catalogue: pa.Table, encoder: Encoder) -> None:
        self._contents = _frame(catalogue)
        self._titles = _Titles(encoder)

    def table(self, day: date, plays: pl.DataFrame) -> pa.Table:
        """Return a day's rows of the contents that the catalogue offered, from all users' plays per content."""
        midnight = _midnight(day)
        offered = _newest(self._contents, "content_id", midnight)
        return _table(CONTENT_PROFILES, _contents(offered, plays), midnight, self._titles)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _plays(events: pa.Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the starts, ordered so that the earliest of a play comes first, and the completions."""
    frame = _frame(events.select(PLAY_COLUMNS.names)).filter(pl.col("verdict") == Verdict.ON_TIME.value)
    starts = frame.filter(pl.col("type") == EventType.CONTENT_START.value).sort("event_timestamp", "event_id")
    completions = frame.filter(pl.col("type") == EventType.CONTENT_COMPLETE.value)
    return starts, completions.select("user_id", "play_id", "event_timestamp", "arrived_at")


def _newest(frame: pl.DataFrame, key: str, midnight: datetime) -> pl.DataFrame:
    """Return each key's newest row that was updated before `midnight`, ordered by key."""
    before = frame.filter(pl.col("updated_at") < midnight)
    return before.sort(key, "updated_at", maintain_order=True).unique(subset=[key], keep="last", maintain_order=True)


def _played(starts: pl.DataFrame, completions: pl.DataFrame, midnight: datetime) -> pl.DataFrame:
    """Return one row per play of the 30 days: user, category, content, its earliest start, and whether it completed."""
    known = (pl.col("event_timestamp") < midnight) & (pl.col("arrived_at") < midnight)
    recent = pl.col("event_timestamp") >= midnight - TASTE_WINDOW
    begun = starts.filter(known & recent).unique(subset=["user_id", "play_id"], keep="first", maintain_order=True)
    ended = (
        completions.filter(known & recent)
        .group_by("user_id", "play_id")
        .agg(pl.col("event_timestamp").max().alias("completed_at"))
    )
    return begun.join(ended, on=["user_id", "play_id"], how="left").with_columns(
        (pl.col("completed_at") >= pl.col("event_timestamp")).fill_null(False).alias("completed")
    )


def _profiles(known: pl.DataFrame, midnight: datetime) -> pl.DataFrame:
    age = (pl.lit(midnight) - pl.col("signed_up_at")).dt.total_microseconds() // (86_400 * 1_000_000)
    level = (
        pl.when(pl.col("tenure_days") < NEW_DAYS)
        .then(pl.lit("new"))
        .when(pl.col("tenure_days") < LOYAL_DAYS)
        .then(pl.lit("regular"))
        .otherwise(pl.lit("loyal"))
    )
    return known.with_columns(age.clip(lower_bound=0).alias("tenure_days")).with_columns(level.alias("tenure_level"))


def _taste(known: pl.DataFrame, played: pl.DataFrame) -> pl.DataFrame:
    counts = []
    for category in Category:
        of = pl.col("category") == category.value
        plays = of.sum().cast(pl.Int64)
        counts.append(plays.alias(f"plays_30d_{category}"))
        rate = pl.when(plays > 0).then((of & pl.col("completed")).sum() / plays)
        counts.append(rate.alias(f"completion_rate_30d_{category}"))
    taste = played.group_by("user_id").agg(counts)
    everybody = pl.concat([known.select("user_id"), played.select("user_id")]).unique().sort("user_id")
    joined = everybody.join(taste, on="user_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col(f"plays_30d_{category}").fill_null(0) for category in Category)


def _content_plays(played: pl.DataFrame, midnight: datetime) -> pl.DataFrame:
    lately = pl.col("event_timestamp") >= midnight - POPULARITY_WINDOW
    return played.group_by("content_id").agg(
        lately.sum().cast(pl.Int64).alias("plays_7d"),
        pl.len().cast(pl.Int64).alias("plays_30d"),
        pl.col("completed").sum().cast(pl.Int64).alias("completed_30d"),
    )


def _contents(offered: pl.DataFrame, plays: pl.DataFrame) -> pl.DataFrame:
    rate = (pl.col("completed_30d") / pl.col("plays_30d")).alias("completion_rate_30d")
    joined = offered.join(plays.with_columns(rate), on="content_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("plays_7d").fill_null(0))


class _Titles:
    """Embeddings of titles, each text encoded once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, object] = {}

    def of(self, titles: list[str]) -> pa.Array:
        unknown = [title for title in dict.fromkeys(titles) if title not in self._known]
        for title, vector in zip(unknown, self._encoder.encode(unknown), strict=True):
            self._known[title] = None if np.isnan(vector[0]) else vector
        return embeddings_array([self._known[title] for title in titles])


def _table(view: View, frame: pl.DataFrame, midnight: datetime, titles: _Titles | None = None) -> pa.Table:
    """Return the frame in the view's columns, stamped with the day."""
    schema = feature_columns(view)
    moment = pa.scalar(midnight, schema.field("event_timestamp").type)
    stamps = pa.array([moment.as_py()] * len(frame), moment.type)
    arrays = []
    for field in schema:
        if field.name in ("event_timestamp", "created_timestamp"):
            arrays.append(stamps)
        elif field.name == "title_embedding" and titles is not None:
            arrays.append(titles.of(frame["title"].to_list()))
        else:
            arrays.append(frame[field.name].to_arrow().cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def days_between(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
