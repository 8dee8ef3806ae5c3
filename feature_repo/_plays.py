"""The plays of thirty days, as the daily views count them."""

from typing import TYPE_CHECKING

from stillpoint.app import days

from .events import ContentComplete, ContentStart

if TYPE_CHECKING:
    import polars as pl

    from stillpoint.features.daily import Day

TASTE_WINDOW = days(30)
POPULARITY_WINDOW = days(7)
PLAYS = (ContentStart, ContentComplete)


def played(day: "Day") -> "pl.DataFrame":
    """Return one row per play of the window: user, category, content, its earliest start, and whether it completed."""
    return day.once(played, lambda: _played(day))


def _played(day: "Day") -> "pl.DataFrame":
    import polars as pl

    starts = day.events(ContentStart, within=TASTE_WINDOW).select(
        "user_id", "play_id", "event_timestamp", "category", "content_id"
    )
    begun = starts.unique(subset=["user_id", "play_id"], keep="first", maintain_order=True)
    ended = (
        day.events(ContentComplete, within=TASTE_WINDOW)
        .group_by("user_id", "play_id")
        .agg(pl.col("event_timestamp").max().alias("completed_at"))
    )
    return begun.join(ended, on=["user_id", "play_id"], how="left").with_columns(
        (pl.col("completed_at") >= pl.col("event_timestamp")).fill_null(False).alias("completed")
    )
