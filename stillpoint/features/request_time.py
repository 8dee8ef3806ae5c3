"""Computes request-time features: of the user, the candidate and the moment of the request together.

Each is a pure function over columns, the same in training (n rows) and in serving (one user's values broadcast to n
candidates): a column has n rows or one. Missing is NaN, in and out; a withheld value is missing.
"""

from collections.abc import Sequence

import numpy as np

from stillpoint.app.recommendations import REQUEST_TIMESTAMP as REQUEST_TIMESTAMP
from stillpoint.app.recommendations import Columns as Columns
from stillpoint.app.recommendations import RequestTimeFeature
from stillpoint.app.recommendations import Values as Values


def compute(rows: Columns, features: Sequence[RequestTimeFeature]) -> dict[str, Values]:
    """Return request-time features as float64, with as many rows as the inputs have when broadcast together.

    Embeddings are (n, length) float32, texts are object arrays with None, flags are 0, 1 or NaN; `<view>_age_seconds` is
    NaN unless the view's value is present. A feature may read another of `features`.

    Raises:
        KeyError: names the input column that is missing.
    """
    by_name = {one.name: one for one in features}
    given = [name for one in features for name in one.inputs if name not in by_name]
    count = max((len(rows[name]) for name in given), default=0)
    found: dict[str, Values] = {}

    def value(one: RequestTimeFeature) -> Values:
        if one.name not in found:
            others = {name: value(by_name[name]) for name in one.inputs if name in by_name}
            values = one.compute({**rows, **others} if others else rows)
            found[one.name] = values if len(values) == count else np.broadcast_to(values, (count,)).copy()
        return found[one.name]

    return {one.name: value(one) for one in features}
