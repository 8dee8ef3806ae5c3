"""Times in a feature server's answer are written as Feast writes them."""

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from stillpoint.stores.feature_server.response import time_texts
from stillpoint.stores.reading.types import ABSENT_US

SECONDS = st.integers(-62_000_000_000, 250_000_000_000)
PARTS = st.sampled_from([0, 1, 999, 1_000, 250_000, 999_000, 999_999, 123_456])


@given(times=st.lists(st.builds(lambda seconds, rest: seconds * 1_000_000 + rest, SECONDS, PARTS), max_size=20))
def test_times_are_protobufs_json_with_as_many_digits_as_they_need(times: list[int]) -> None:
    expected = []
    for micros in times:
        stamp = Timestamp()
        stamp.FromMicroseconds(micros)
        expected.append(stamp.ToJsonString())
    assert time_texts(np.array(times, np.int64)) == expected


def test_an_absent_time_is_the_epoch_as_in_feast() -> None:
    assert time_texts(np.array([ABSENT_US, 0], np.int64)) == ["1970-01-01T00:00:00Z"] * 2
