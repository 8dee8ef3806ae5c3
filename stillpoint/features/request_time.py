"""Features that depend on the user, the candidate and the moment of the request together.

Each is a pure function over columns, the same in training (n rows) and in serving (one user's values broadcast to n
candidates): a column has n rows or one. Missing is NaN, in and out; a withheld value is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.clock import DAY, HOUR
from stillpoint.events.types import Category
from stillpoint.features.declarations import STREAMED_VIEWS, DType, Feature

Columns = Mapping[str, npt.NDArray[Any]]
Values = npt.NDArray[np.float64]

REQUEST_TIMESTAMP = "request_timestamp_us"
_PLAYS = {category: f"plays_30d_{category}" for category in Category}
_COMPLETIONS = {category: f"completion_rate_30d_{category}" for category in Category}
_CODES = {category.value: place for place, category in enumerate(Category)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFeature:
    """A declared feature, the columns that it reads, and its definition."""

    feature: Feature
    inputs: tuple[str, ...]
    compute: Callable[[Columns], Values]


def request_time_features(rows: Columns) -> dict[str, Values]:
    """Return every request-time feature as float64, with as many rows as the inputs have when broadcast together.

    Embeddings are (n, 256) float32, texts are object arrays with None, flags are 0, 1 or NaN; `<view>_age_seconds` is
    NaN unless the view's value is present.

    Raises:
        KeyError: names the input column that is missing.
    """
    return compute(rows, REQUEST_FEATURES)


def compute(rows: Columns, features: Sequence[RequestFeature]) -> dict[str, Values]:
    """Return the given request-time features, in the form of `request_time_features`."""
    count = max(len(rows[name]) for declared in features for name in declared.inputs)
    found = {}
    for declared in features:
        values = declared.compute(rows)
        found[declared.feature.name] = values if len(values) == count else np.broadcast_to(values, (count,)).copy()
    return found


def search_title_cosine(rows: Columns) -> Values:
    """Return the cosine of the user's searches and the candidate's title, summed in float64 by halves, so that the result
    is bit-equal for any number of rows."""
    searches, titles = (rows[name].astype(np.float64, copy=False) for name in ("search_embedding", "title_embedding"))
    products = searches * titles
    while products.shape[1] > 1:
        half = products.shape[1] // 2
        products = products[:, :half] + products[:, half:]
    return products[:, 0]


def category_bounce_rate(rows: Columns) -> Values:
    """Share of the session's plays abandoned, among sleep plays for a sleep candidate and among all others otherwise."""
    plays, sleep_plays = _numbers(rows, "session_play_count"), _numbers(rows, "session_sleep_play_count")
    sleep_rate = _numbers(rows, "session_sleep_bounce_rate")
    bounced = np.rint(_numbers(rows, "session_bounce_rate") * plays)
    sleep_bounced = np.where(sleep_plays > 0, np.rint(sleep_rate * sleep_plays), 0.0)
    others = plays - sleep_plays
    with np.errstate(invalid="ignore", divide="ignore"):
        other_rate = np.where(others > 0, (bounced - sleep_bounced) / others, np.nan)
    return _where_known(rows, np.where(rows["category"] == Category.SLEEP.value, sleep_rate, other_rate))


def category_plays(rows: Columns) -> Values:
    """The user's plays of the candidate's category in thirty days."""
    return _by_category(rows, _PLAYS)


def category_completion_rate(rows: Columns) -> Values:
    """The user's completion rate of the candidate's category in thirty days."""
    return _by_category(rows, _COMPLETIONS)


def category_play_share(rows: Columns) -> Values:
    """Plays of the candidate's category among all the user's plays of thirty days; NaN without plays."""
    total = sum((_numbers(rows, name) for name in _PLAYS.values()), start=np.zeros(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, category_plays(rows) / total, np.nan)


def move_while_rising(rows: Columns) -> Values:
    """1 if pulse and steps rise and the candidate is for moving, 0 if not, NaN if either is unknown."""
    rising = _numbers(rows, "exertion_rising")
    move = _where_known(rows, (rows["category"] == Category.MOVE.value).astype(np.float64))
    return rising * move


def hour_of_day(rows: Columns) -> Values:
    """The request's hour in UTC with fraction, 0 to 24."""
    return np.asarray((rows[REQUEST_TIMESTAMP].astype(np.int64) % DAY) / HOUR, dtype=np.float64)


def _numbers(rows: Columns, name: str) -> Values:
    return rows[name].astype(np.float64, copy=False)


def _category_codes(rows: Columns) -> npt.NDArray[np.intp]:
    """Return each candidate's category by its place among all, their number where it is unknown."""
    return np.array([_CODES.get(value, len(_CODES)) for value in rows["category"].tolist()], np.intp)


def _where_known(rows: Columns, values: npt.NDArray[Any]) -> Values:
    """Return the values, NaN where the candidate's category is unknown."""
    return np.where(_category_codes(rows) < len(_CODES), values, np.nan)


def _by_category(rows: Columns, names: Mapping[Category, str]) -> Values:
    codes = _category_codes(rows)
    columns = [*(_numbers(rows, names[category]) for category in Category), np.full(1, np.nan)]
    if all(len(values) == 1 for values in columns):
        of_one: Values = np.concatenate(columns)[codes]
        return of_one
    table = np.stack(np.broadcast_arrays(*columns))
    of_many: Values = table[codes, np.arange(table.shape[1])]
    return of_many


def _age(name: str) -> Callable[[Columns], Values]:
    return lambda rows: rows[name].astype(np.float64)


def _declare(
    compute: Callable[[Columns], Values],
    unit: str,
    low: float | None,
    high: float | None,
    null: str | None,
    *inputs: str,
) -> RequestFeature:
    description = " ".join((compute.__doc__ or "").split())
    feature = Feature(
        name=compute.__name__,
        dtype=DType.FLOAT64,
        unit=unit,
        minimum=low,
        maximum=high,
        null_when=null,
        description=description,
    )
    return RequestFeature(feature=feature, inputs=inputs, compute=compute)


_SESSION = ("session_play_count", "session_sleep_play_count", "session_bounce_rate", "session_sleep_bounce_rate")
REQUEST_FEATURES: tuple[RequestFeature, ...] = (
    _declare(
        search_title_cosine, "cosine", -1.0001, 1.0001, "no search or no title", "search_embedding", "title_embedding"
    ),
    _declare(category_bounce_rate, "share", 0, 1, "no such play in the session", *_SESSION, "category"),
    _declare(category_plays, "plays", 0, None, "unknown user or category", *_PLAYS.values(), "category"),
    _declare(category_completion_rate, "share", 0, 1, "no such play", *_COMPLETIONS.values(), "category"),
    _declare(category_play_share, "share", 0, 1, "no play", *_PLAYS.values(), "category"),
    _declare(move_while_rising, "flag", 0, 1, "exertion or category unknown", "exertion_rising", "category"),
    _declare(hour_of_day, "hours", 0, 24, None, REQUEST_TIMESTAMP),
    *(
        RequestFeature(
            feature=Feature(
                name=f"{view.name}_age",
                dtype=DType.FLOAT64,
                unit="seconds",
                minimum=0,
                null_when="no value within its time-to-live",
                description=f"Age of the {view.name} that the request sees.",
            ),
            inputs=(f"{view.name}_age_seconds",),
            compute=_age(f"{view.name}_age_seconds"),
        )
        for view in STREAMED_VIEWS
    ),
)
"""All request-time features, in the order in which models list them."""

REQUEST_INPUTS: tuple[str, ...] = tuple(dict.fromkeys(name for one in REQUEST_FEATURES for name in one.inputs))
