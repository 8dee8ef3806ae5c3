"""The packed, vectorised as-of search answers what reading all rows one by one answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillpoint.stores.history.point_in_time import NONE, UNKNOWN, Rows, as_of

TIMES = st.one_of(st.integers(0, 6), st.sampled_from([-(2**60), -5, 10**15, 2**60]))
ROW = st.tuples(st.integers(0, 3), TIMES, st.one_of(st.none(), TIMES))
QUESTION = st.tuples(st.integers(-1, 4), TIMES)


def newest(rows, code, time, ttl, cutoff):
    """The answer, by looking at every row."""
    best = None
    for position, (row_code, event, created) in enumerate(rows):
        if row_code != code or event > time:
            continue
        if cutoff and (created is None or created > time):
            continue
        key = (event, UNKNOWN if created is None else created, position)
        if best is None or key > best:
            best = key
    if best is None or (ttl is not None and time - best[0] > ttl):
        return NONE
    return best[2]


def as_rows(rows):
    return Rows(
        code=np.array([row[0] for row in rows], dtype=np.int64),
        event=np.array([row[1] for row in rows], dtype=np.int64),
        created=np.array([UNKNOWN if row[2] is None else row[2] for row in rows], dtype=np.int64),
    )


@pytest.mark.parametrize("cutoff", [False, True])
@settings(max_examples=600, deadline=None)
@given(
    rows=st.lists(ROW, max_size=14),
    questions=st.lists(QUESTION, max_size=8),
    ttl=st.one_of(st.none(), st.integers(1, 4)),
)
def test_every_question_gets_the_answer_of_the_plain_search(cutoff, rows, questions, ttl):
    found = as_of(
        as_rows(rows),
        code=np.array([code for code, _ in questions], dtype=np.int64),
        time=np.array([time for _, time in questions], dtype=np.int64),
        ttl=ttl,
        cutoff=cutoff,
    )
    assert found.tolist() == [newest(rows, code, time, ttl, cutoff) for code, time in questions]


def test_a_source_without_created_times_is_unaffected_by_the_cutoff():
    rows = Rows(code=np.array([0, 0]), event=np.array([1, 2]))
    question = {"code": np.array([0]), "time": np.array([2]), "ttl": None}
    assert as_of(rows, cutoff=True, **question).tolist() == as_of(rows, cutoff=False, **question).tolist() == [1]
