"""The session baseline knows what was played near the last plays, and nothing that was played later."""

import numpy as np
import polars as pl
import pytest

from stillpoint.clock import DAY
from training.item_to_item import scores

PLAYS = pl.DataFrame(
    [("a", "x", 1), ("a", "y", 2), ("b", "x", DAY + 1), ("b", "y", DAY + 2), ("c", "z", DAY + 3), ("d", "x", 2 * DAY)],
    schema={"user_id": pl.String, "content_id": pl.String, "known_us": pl.Int64},
    orient="row",
)


def shown(user, at_us):
    return pl.DataFrame({"user_id": [user] * 3, "content_id": ["x", "y", "z"], "at_us": [at_us] * 3})


def test_what_others_played_on_the_same_day_comes_first():
    assert scores(PLAYS, shown("d", 2 * DAY + 5), until_us=2 * DAY) == pytest.approx([0.0, 2 / np.sqrt(6), 0.0])


def test_a_play_that_comes_later_has_no_effect():
    assert scores(PLAYS, shown("d", 2 * DAY - 5), until_us=2 * DAY).tolist() == [0.0, 0.0, 0.0]
    assert scores(PLAYS, shown("nobody", 3 * DAY), until_us=2 * DAY).tolist() == [0.0, 0.0, 0.0]
