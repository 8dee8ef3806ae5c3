"""The daily view `user_taste`."""

from typing import TYPE_CHECKING

from stillpoint.app import user
from stillpoint.app.tables import column, daily_view
from stillpoint.dtypes import DType

from ._plays import PLAYS, TASTE_WINDOW, played
from .tables import CATEGORIES, users

if TYPE_CHECKING:
    import polars as pl

    from stillpoint.features.daily import Day


@daily_view(
    user,
    *(
        column(
            f"plays_30d_{category}",
            DType.INT64,
            unit="plays",
            minimum=0,
            description=f"Distinct plays of {category} content.",
        )
        for category in CATEGORIES
    ),
    *(
        column(
            f"completion_rate_30d_{category}",
            DType.FLOAT64,
            unit="share",
            minimum=0,
            maximum=1,
            null_when="no play in the window",
            description=f"Share of the {category} plays that were completed.",
        )
        for category in CATEGORIES
    ),
    events=PLAYS,
    reaches=TASTE_WINDOW,
)
def user_taste(day: "Day") -> "pl.DataFrame":
    """What the user played in the last thirty days, by category."""
    import polars as pl

    known, plays_of_all = day.table(users), played(day)
    counts = []
    for category in CATEGORIES:
        of = pl.col("category") == category
        plays = of.sum().cast(pl.Int64)
        counts.append(plays.alias(f"plays_30d_{category}"))
        rate = pl.when(plays > 0).then((of & pl.col("completed")).sum() / plays)
        counts.append(rate.alias(f"completion_rate_30d_{category}"))
    taste = plays_of_all.group_by("user_id").agg(counts)
    everybody = pl.concat([known.select("user_id"), plays_of_all.select("user_id")]).unique().sort("user_id")
    joined = everybody.join(taste, on="user_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col(f"plays_30d_{category}").fill_null(0) for category in CATEGORIES)
