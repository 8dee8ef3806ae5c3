"""What may be shown is one rule: serving's choice, the way out of stored lists and training agree with a plain reading."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from inference.ranking.catalogue import ContentTable
from stillpoint.catalogue import newest_rows
from stillpoint.clock import to_micros
from stillpoint.events.types import CATALOGUE_COLUMNS
from tests.support.wellness import FEATURES
from training.offered import offered_then

START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = st.integers(0, 12)


def row(content: int, updated: int, published: int, until: int | None, withdrawn: bool | None) -> dict[str, Any]:
    return {
        "content_id": f"c{content}",
        "title": "",
        "description": "",
        "category": "sleep",
        "duration_seconds": 60,
        "published_at": START + timedelta(hours=published),
        "updated_at": START + timedelta(hours=updated),
        "until": None if until is None else START + timedelta(hours=until),
        "withdrawn": withdrawn,
    }


ROWS = st.lists(
    st.tuples(st.integers(0, 2), HOURS, HOURS, st.none() | HOURS, st.sampled_from([None, None, True, False])),
    max_size=8,
    unique_by=lambda one: one[:2],  # of two rows of one moment nothing but the withdrawal is promised
)


def plainly(rows: list[dict[str, Any]], content_id: str, at: datetime, known: datetime) -> bool | None:
    """Whether a content was offered at a moment, by the rows known then; None if nothing is said of it."""
    own = sorted((one for one in rows if one["content_id"] == content_id), key=lambda one: one["updated_at"])
    then = [one for one in own if one["updated_at"] <= known]
    if not then:
        return None
    said = [one["withdrawn"] for one in then if one["withdrawn"] is not None]
    last = then[-1]
    if said and said[-1]:
        return False
    return last["published_at"] <= at and (last["until"] is None or at < last["until"])


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=CATALOGUE_COLUMNS)


@given(ROWS, HOURS, st.booleans())
def test_serving_offers_what_the_newest_rows_allow_at_each_moment(
    given_rows: list[tuple[Any, ...]], hour: int, turned: bool
) -> None:
    rows = [row(*one) for one in given_rows]
    newest = newest_rows(table(rows[::-1] if turned else rows), until=START + timedelta(hours=hour))
    for moment in (START + timedelta(hours=half / 2) for half in range(26)):
        for one in newest:
            expected = plainly(rows, one.content_id, moment, START + timedelta(hours=hour))
            assert one.offered_at(moment) is expected
    contents = contents_of(newest)
    for moment in (START + timedelta(hours=half / 2) for half in range(26)):
        offered = contents.offered_at(to_micros(moment))
        assert offered.ids == tuple(one.content_id for one in newest if one.offered_at(moment))
        assert contents.withheld_at(to_micros(moment)) == {one.content_id for one in newest} - set(offered.ids)
        assert contents.offered_at(to_micros(moment)) is offered  # what is laid out for it stays


def contents_of(newest: list[Any]) -> ContentTable:
    never = np.iinfo(np.int64).max
    count = len(newest)
    return ContentTable(
        tuple(one.content_id for one in newest),
        ("",) * count,
        np.full(count, "sleep", object),
        np.zeros(count),
        {},
        FEATURES,
        offered_from=np.array([never if one.withdrawn else to_micros(one.published_at) for one in newest], np.int64),
        offered_until=np.array([to_micros(one.until) if one.until else never for one in newest], np.int64),
    )


@given(ROWS, st.lists(st.tuples(st.integers(0, 3), HOURS), min_size=1, max_size=6), HOURS)
def test_training_leaves_out_what_was_shown_though_it_was_not_offered_then(
    given_rows: list[tuple[Any, ...]], shown: list[tuple[int, int]], known: int
) -> None:
    rows = [one for one in (row(*one) for one in given_rows) if one["updated_at"] <= START + timedelta(hours=known)]
    later = [row(content, 13, 0, None, True) for content in range(4)]
    frame = pl.DataFrame(
        {
            "content_id": [f"c{content}" for content, _ in shown],
            "event_timestamp": pl.Series(
                [START + timedelta(hours=hour) for _, hour in shown], dtype=pl.Datetime("us", "UTC")
            ),
        }
    )
    found = offered_then(frame, table(rows + later), known=START + timedelta(hours=known)).to_list()
    expected = []
    for content, hour in shown:
        at = START + timedelta(hours=hour)
        first = min((one["updated_at"] for one in rows if one["content_id"] == f"c{content}"), default=at)
        said = plainly(rows, f"c{content}", at, max(at, first))
        expected.append(True if said is None else said)
    assert found == expected
