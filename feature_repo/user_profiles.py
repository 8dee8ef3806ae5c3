"""The daily view `user_profiles`."""

from typing import TYPE_CHECKING

from stillpoint.app import user
from stillpoint.app.tables import column, daily_view
from stillpoint.dtypes import DType

from .tables import users

if TYPE_CHECKING:
    import polars as pl

    from stillpoint.features.daily import Day

NEW_DAYS, LOYAL_DAYS = 30, 365


@daily_view(
    user,
    column("tenure_days", DType.INT64, unit="days", minimum=0, description="Whole days since sign-up."),
    column(
        "tenure_level",
        DType.STRING,
        unit="level",
        values=("new", "regular", "loyal"),
        description="new under 30 days, loyal from 365.",
    ),
    column("gender", DType.STRING, null_when="not stated", description="As stated by the user."),
    column("locale", DType.STRING, unit="BCP 47", null_when="unknown", description="The app's language and region."),
    column("subscribed", DType.BOOL, unit="flag", description="Has a paid subscription."),
)
def user_profiles(day: "Day") -> "pl.DataFrame":
    """Who the user is: tenure, gender, locale, subscription."""
    import polars as pl

    age = (pl.lit(day.midnight) - pl.col("signed_up_at")).dt.total_microseconds() // (86_400 * 1_000_000)
    level = (
        pl.when(pl.col("tenure_days") < NEW_DAYS)
        .then(pl.lit("new"))
        .when(pl.col("tenure_days") < LOYAL_DAYS)
        .then(pl.lit("regular"))
        .otherwise(pl.lit("loyal"))
    )
    known = day.table(users)
    return known.with_columns(age.clip(lower_bound=0).alias("tenure_days")).with_columns(level.alias("tenure_level"))
