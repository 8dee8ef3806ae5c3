"""Features of the user, the candidate and the moment of a request together."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from stillpoint.app.recommendations import REQUEST_TIMESTAMP, Columns, Values, request_time
from stillpoint.clock import DAY, HOUR

from .tables import CATEGORIES

if TYPE_CHECKING:
    import numpy.typing as npt

PLAYS = {category: f"plays_30d_{category}" for category in CATEGORIES}
COMPLETIONS = {category: f"completion_rate_30d_{category}" for category in CATEGORIES}
CODES = {category: place for place, category in enumerate(CATEGORIES)}


@request_time(
    "search_embedding",
    "title_embedding",
    unit="cosine",
    minimum=-1.0001,
    maximum=1.0001,
    null_when="no search or no title",
)
def search_title_cosine(rows: Columns) -> Values:
    """Return the cosine of the user's searches and the candidate's title, summed in float64 by halves, so that the result
    is bit-equal for any number of rows."""
    searches, titles = (rows[name].astype(np.float64, copy=False) for name in ("search_embedding", "title_embedding"))
    products = searches * titles
    while products.shape[1] > 1:
        half = products.shape[1] // 2
        products = products[:, :half] + products[:, half:]
    return products[:, 0]


@request_time(
    "session_play_count",
    "session_sleep_play_count",
    "session_bounce_rate",
    "session_sleep_bounce_rate",
    "category",
    unit="share",
    minimum=0,
    maximum=1,
    null_when="no such play in the session",
)
def category_bounce_rate(rows: Columns) -> Values:
    """Share of the session's plays abandoned, among sleep plays for a sleep candidate and among all others otherwise."""
    plays, sleep_plays = _numbers(rows, "session_play_count"), _numbers(rows, "session_sleep_play_count")
    sleep_rate = _numbers(rows, "session_sleep_bounce_rate")
    bounced = np.rint(_numbers(rows, "session_bounce_rate") * plays)
    sleep_bounced = np.where(sleep_plays > 0, np.rint(sleep_rate * sleep_plays), 0.0)
    others = plays - sleep_plays
    with np.errstate(invalid="ignore", divide="ignore"):
        other_rate = np.where(others > 0, (bounced - sleep_bounced) / others, np.nan)
    return _where_known(rows, np.where(rows["category"] == "sleep", sleep_rate, other_rate))


@request_time(*PLAYS.values(), "category", unit="plays", minimum=0, null_when="unknown user or category")
def category_plays(rows: Columns) -> Values:
    """The user's plays of the candidate's category in thirty days."""
    return _by_category(rows, PLAYS)


@request_time(*COMPLETIONS.values(), "category", unit="share", minimum=0, maximum=1, null_when="no such play")
def category_completion_rate(rows: Columns) -> Values:
    """The user's completion rate of the candidate's category in thirty days."""
    return _by_category(rows, COMPLETIONS)


@request_time(*PLAYS.values(), "category", unit="share", minimum=0, maximum=1, null_when="no play")
def category_play_share(rows: Columns) -> Values:
    """Plays of the candidate's category among all the user's plays of thirty days; NaN without plays."""
    total = sum((_numbers(rows, name) for name in PLAYS.values()), start=np.zeros(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, _by_category(rows, PLAYS) / total, np.nan)


@request_time(
    "exertion_rising", "category", unit="flag", minimum=0, maximum=1, null_when="exertion or category unknown"
)
def move_while_rising(rows: Columns) -> Values:
    """1 if pulse and steps rise and the candidate is for moving, 0 if not, NaN if either is unknown."""
    rising = _numbers(rows, "exertion_rising")
    move = _where_known(rows, (rows["category"] == "move").astype(np.float64))
    return rising * move


@request_time(REQUEST_TIMESTAMP, unit="hours", minimum=0, maximum=24)
def hour_of_day(rows: Columns) -> Values:
    """The request's hour in UTC with fraction, 0 to 24."""
    return np.asarray((rows[REQUEST_TIMESTAMP].astype(np.int64) % DAY) / HOUR, dtype=np.float64)


def _numbers(rows: Columns, name: str) -> Values:
    return rows[name].astype(np.float64, copy=False)


def _category_codes(rows: Columns) -> "npt.NDArray[np.intp]":
    """Return each candidate's category by its place among all, their number where it is unknown."""
    return np.array([CODES.get(value, len(CODES)) for value in rows["category"].tolist()], np.intp)


def _where_known(rows: Columns, values: "npt.NDArray[Any]") -> Values:
    """Return the values, NaN where the candidate's category is unknown."""
    return np.where(_category_codes(rows) < len(CODES), values, np.nan)


def _by_category(rows: Columns, names: Mapping[str, str]) -> Values:
    codes = _category_codes(rows)
    columns = [*(_numbers(rows, names[category]) for category in CATEGORIES), np.full(1, np.nan)]
    if all(len(values) == 1 for values in columns):
        of_one: Values = np.concatenate(columns)[codes]
        return of_one
    table = np.stack(np.broadcast_arrays(*columns))
    of_many: Values = table[codes, np.arange(table.shape[1])]
    return of_many
