"""The daily view `content_profiles`."""

from typing import TYPE_CHECKING

from stillpoint.app.tables import column, daily_view
from stillpoint.dtypes import DType

from ._plays import PLAYS, POPULARITY_WINDOW, TASTE_WINDOW, played
from .tables import CATEGORIES, catalogue, content

if TYPE_CHECKING:
    import polars as pl

    from stillpoint.features.daily import Day


def plays_of_contents(day: "Day") -> "pl.DataFrame":
    """Return how often some users played each content, and completed it."""
    import polars as pl

    lately = pl.col("event_timestamp") >= day.midnight - POPULARITY_WINDOW
    return (
        played(day)
        .group_by("content_id")
        .agg(
            lately.sum().cast(pl.Int64).alias("plays_7d"),
            pl.len().cast(pl.Int64).alias("plays_30d"),
            pl.col("completed").sum().cast(pl.Int64).alias("completed_30d"),
        )
    )


@daily_view(
    content,
    column("category", DType.STRING, unit="category", values=CATEGORIES, description="The content's category."),
    column("duration_seconds", DType.INT64, unit="seconds", minimum=1, description="Length."),
    column(
        "title_embedding",
        DType.EMBEDDING,
        unit="unit vector",
        minimum=-1,
        maximum=1,
        null_when="the title has no known word",
        description="The title in the encoder's space.",
    ),
    column("plays_7d", DType.INT64, unit="plays", minimum=0, description="Distinct plays of all users."),
    column(
        "completion_rate_30d",
        DType.FLOAT64,
        unit="share",
        minimum=0,
        maximum=1,
        null_when="no play in the window",
        description="Share of all plays that were completed.",
    ),
    events=PLAYS,
    reaches=TASTE_WINDOW,
    adds=plays_of_contents,
)
def content_profiles(day: "Day") -> "pl.DataFrame":
    """What a content is, and how it was received lately."""
    import polars as pl

    rate = (pl.col("completed_30d") / pl.col("plays_30d")).alias("completion_rate_30d")
    counts = day.sums.with_columns(rate)
    joined = day.table(catalogue).join(counts, on="content_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("plays_7d").fill_null(0), day.embedded(joined["title"]).alias("title_embedding"))
