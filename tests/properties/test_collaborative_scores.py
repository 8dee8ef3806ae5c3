"""A play that comes later never reaches the collaborative score of an earlier training row."""

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from stillpoint.clock import SECOND
from training import collaborative
from training.collaborative import scores_from_earlier

MINUTE = 60 * SECOND
PLAY = st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(0, 100), st.sampled_from([1.0, 2.0]))
ROW = st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(0, 100))
PLAYS = st.lists(PLAY, min_size=6, max_size=25)
ROWS = st.lists(ROW, min_size=6, max_size=20)


def scores(plays, rows):
    rows = sorted(rows, key=lambda row: row[2])
    table = pa.table(
        {
            "user_id": [row[0] for row in rows],
            "content_id": [row[1] for row in rows],
            "event_timestamp": pa.array([row[2] * MINUTE for row in rows], pa.timestamp("us", tz="UTC")),
        }
    )
    frame = pl.DataFrame(
        [(user, content, at * MINUTE, strength) for user, content, at, strength in plays],
        schema={"user_id": pl.String, "content_id": pl.String, "known_us": pl.Int64, "strength": pl.Float64},
        orient="row",
    ).sort("known_us", "user_id", "content_id")
    found = scores_from_earlier(frame, table, mapping_version=1, seed=7, slices=4)
    return np.array([row[2] for row in rows]), found


@settings(max_examples=15, deadline=None)
@given(PLAYS, ROWS, PLAYS, st.integers(0, 100))
def test_plays_from_a_moment_on_leave_the_scores_until_then_bit_for_bit(plays, rows, planted, moment):
    known = [play for play in plays if play[2] < moment]
    later = [(user, content, max(at, moment), strength) for user, content, at, strength in planted]
    at, before = scores(known, rows)
    _, after = scores(known + later, rows)
    np.testing.assert_array_equal(before[at <= moment], after[at <= moment])


def test_what_was_known_before_a_row_does_reach_its_score():
    rows = [("a", "w", minute) for minute in range(50, 60)]
    _, without = scores([("b", "w", 1, 1.0)], rows)
    _, found = scores([("b", "w", 1, 1.0), ("a", "w", 2, 2.0)], rows)
    assert np.isnan(without).all()
    assert (found > 0).all()


def test_factors_have_the_same_bits_for_any_number_of_threads(monkeypatch):
    random = np.random.default_rng(3)
    plays = pl.DataFrame(
        {
            "user_id": [f"u{number}" for number in random.integers(0, 800, 6_000)],
            "content_id": [f"c{number}" for number in random.integers(0, 120, 6_000)],
            "known_us": np.arange(6_000),
            "strength": random.choice([1.0, 2.0], 6_000),
        }
    )
    found = []
    monkeypatch.setattr(collaborative, "MANY_PLAYS", 1)
    for threads in (1, 2, 3, 2):
        monkeypatch.setattr(collaborative, "THREADS", threads)
        found.append(collaborative.fit(plays, mapping_version=1, seed=7))
    assert len({one.users.tobytes() + one.contents.tobytes() for one in found}) == 1
