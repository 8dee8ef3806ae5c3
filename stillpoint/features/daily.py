"""The daily views: what was known about users and contents at the start of a day.

Pure over tables. Day D (UTC) sees on-time events that happened and arrived before D 00:00, and the newest rows of users
and catalogue that were updated before it. Its rows carry D 00:00 as event and created timestamp, for history too.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from stillpoint.encoder import Encoder
from stillpoint.events.types import Category, EventType, Verdict
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


def daily_tables(
    days: list[date], *, events: pa.Table, users: pa.Table, catalogue: pa.Table, encoder: Encoder
) -> Iterator[tuple[date, View, pa.Table]]:
    """Yield each day's rows of each daily view, in `feature_columns`, day by day in the order given.

    `events` must reach 30 days back from the first day; other types, verdicts and copies of a record are ignored. A user
    has a row of `user_taste` if `users` knows them or they played in the window. Counts are 0 and rates null without
    plays.
    """
    plays, completions = _plays(events)
    user_rows, contents = _frame(users), _frame(catalogue)
    titles = _Titles(encoder)
    for day in days:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        known = _newest(user_rows, "user_id", midnight)
        played = _played(plays, completions, midnight)
        yield day, USER_PROFILES, _table(USER_PROFILES, _profiles(known, midnight), midnight)
        yield day, USER_TASTE, _table(USER_TASTE, _taste(known, played), midnight)
        offered = _newest(contents, "content_id", midnight)
        yield day, CONTENT_PROFILES, _table(CONTENT_PROFILES, _contents(offered, played, midnight), midnight, titles)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _plays(events: pa.Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the starts, ordered so that the earliest of a play comes first, and the completions."""
    columns = [
        "type",
        "verdict",
        "user_id",
        "play_id",
        "event_id",
        "event_timestamp",
        "arrived_at",
        "category",
        "content_id",
    ]
    frame = _frame(events.select(columns)).filter(pl.col("verdict") == Verdict.ON_TIME.value)
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


def _contents(offered: pl.DataFrame, played: pl.DataFrame, midnight: datetime) -> pl.DataFrame:
    lately = pl.col("event_timestamp") >= midnight - POPULARITY_WINDOW
    counts = played.group_by("content_id").agg(
        lately.sum().cast(pl.Int64).alias("plays_7d"),
        (pl.col("completed").sum() / pl.len()).alias("completion_rate_30d"),
    )
    joined = offered.join(counts, on="content_id", how="left", maintain_order="left")
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
