"""Are request-time features in serving those of training, though serving computes some of them once per category?"""

import numpy as np
import pytest

from inference.contents import Contents
from inference.person import USER_VIEWS, Person
from inference.rank import model_columns
from stillpoint.features.declarations import EMBEDDING_LENGTH, DType
from stillpoint.features.request import REQUEST_INPUTS, REQUEST_TIMESTAMP, request_time_features


def person(random: np.random.Generator, *, known: bool) -> Person:
    columns = {REQUEST_TIMESTAMP: np.array([1_790_000_000_000_000], np.int64)}
    for view in USER_VIEWS:
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                columns[feature.name] = random.normal(size=(1, EMBEDDING_LENGTH)).astype(np.float32)
            elif feature.dtype is DType.STRING:
                columns[feature.name] = np.array(["f"], object)
            else:
                columns[feature.name] = np.array([random.uniform(0, 5) if known else np.nan])
        columns[f"{view.name}_age_seconds"] = np.array([random.uniform(0, 99) if known else np.nan])
    return Person("u1", columns, None, None, None, ())


def contents(random: np.random.Generator, count: int) -> Contents:
    categories = np.array([("sleep", "move", "focus", None, "unheard")[n % 5] for n in range(count)], object)
    titles = random.normal(size=(count, EMBEDDING_LENGTH)).astype(np.float32)
    columns = {"category": categories, "duration_seconds": np.arange(count, dtype=float), "title_embedding": titles}
    ids = tuple(f"c{n}" for n in range(count))
    return Contents(ids, ids, categories, columns["duration_seconds"], columns)


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("known", [True, False])
def test_columns_are_bit_for_bit_what_the_definitions_give(count: int, known: bool) -> None:
    random = np.random.default_rng(count)
    who, what = person(random, known=known), contents(random, count)
    rows = {**who.columns, **what.columns}
    expected = request_time_features({name: rows[name] for name in REQUEST_INPUTS})
    found = model_columns(who, what)
    for name, values in expected.items():
        assert np.broadcast_to(found[name], values.shape).tobytes() == values.tobytes(), name
