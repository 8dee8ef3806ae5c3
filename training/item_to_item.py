"""The session baseline: contents that users played near each other, by the cosine of their plays. (pure)

What a shop without features would do: look at a user's last plays and show what others played within the same day.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from stillpoint.clock import DAY

LAST_PLAYS = 3


def similarity(plays: pl.DataFrame, content_ids: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """Return the cosine between contents over (user, day) baskets, 0 on the diagonal and for contents without plays."""
    baskets = (
        plays.with_columns((pl.col("known_us") // DAY).alias("day"))
        .select("user_id", "day", "content_id")
        .unique(maintain_order=True)
    )
    codes = pl.DataFrame({"content_id": content_ids, "place": np.arange(len(content_ids))})
    placed = baskets.join(codes, on="content_id", how="inner", maintain_order="left")
    pairs = placed.join(placed, on=["user_id", "day"], suffix="_other", maintain_order="left")
    together = np.zeros((len(content_ids), len(content_ids)))
    np.add.at(together, (pairs["place"].to_numpy(), pairs["place_other"].to_numpy()), 1.0)
    often = np.sqrt(np.maximum(np.diag(together), 1.0))
    found = together / often[:, None] / often[None, :]
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def scores(plays: pl.DataFrame, shown: pl.DataFrame, *, until_us: int) -> npt.NDArray[np.float64]:
    """Return for each shown row (`user_id`, `content_id`, `at_us`) how near its content is to the user's last plays known then.

    Nearness is learned from plays known by `until_us`; 0 for a user without plays.
    """
    content_ids = tuple(sorted({*plays["content_id"], *shown["content_id"]}))
    places = {one: place for place, one in enumerate(content_ids)}
    near = similarity(plays.filter(pl.col("known_us") <= until_us), content_ids)
    by_user = {
        user: (group["known_us"].to_numpy(), np.array([places[one] for one in group["content_id"]]))
        for (user,), group in plays.sort("known_us", maintain_order=True).group_by("user_id", maintain_order=True)
    }
    asked = shown.with_row_index("row").group_by("user_id", "at_us", maintain_order=True).agg("row", "content_id")
    found = np.zeros(len(shown))
    for user, at_us, rows, contents in asked.iter_rows():
        times, played = by_user.get(user, (np.empty(0, np.int64), np.empty(0, np.int64)))
        last = played[: int(np.searchsorted(times, at_us, side="right"))][-LAST_PLAYS:]
        if len(last):
            asked_places = np.array([places[one] for one in contents], np.int64)
            found[np.array(rows, np.int64)] = near[np.ix_(last, asked_places)].sum(axis=0)
    return found
