"""A split in which a model would learn from what it is judged by is refused by name."""

import numpy as np
import pyarrow as pa
import pytest

from stillpoint.errors import DataRefused
from training.ranker import Split, refuse_leaks, split_by_time

ROWS = pa.table(
    {
        "recommendation_id": [f"r{number // 2}" for number in range(40)],
        "event_timestamp": pa.array([1_000_000 * (number // 2) for number in range(40)], pa.timestamp("us", tz="UTC")),
    }
)


def test_a_split_by_time_leaks_nothing():
    refuse_leaks(split_by_time(np.arange(40) // 2), ROWS)


def test_parts_that_overlap_in_time_are_refused_with_their_times():
    random = np.random.default_rng(1).permutation(40)
    with pytest.raises(
        DataRefused, match=r"training part ends at 1970-01-01 00:00:19.* and the early stopping part begins at"
    ):
        refuse_leaks(Split(random < 28, (random >= 28) & (random < 32), random >= 32), ROWS)


def test_a_list_in_two_parts_is_refused_by_its_id():
    rows = ROWS.set_column(0, "recommendation_id", pa.array(["r0"] * 40))
    with pytest.raises(DataRefused, match="list r0 lies in the training part and in the early stopping part"):
        refuse_leaks(split_by_time(np.arange(40) // 2), rows)
