"""A list under other features of the user: whole rows are replaced, and a row past its time is none."""

from types import SimpleNamespace

import numpy as np
import pytest

from inference.predictions.counterfactual import ranked, with_row
from inference.ranking.catalogue import ContentTable
from inference.ranking.user_features import UserFeatures
from stillpoint.dtypes import EMBEDDING_LENGTH
from stillpoint.messages import Kind
from tests.support.wellness import FEATURES, SEARCH_EMBEDDINGS

EMBEDDING, COUNT, AGE = "search_embedding", "search_count_24h", "search_embeddings_age_seconds"


def unit(place):
    vector = np.zeros(EMBEDDING_LENGTH, np.float32)
    vector[place] = 1.0
    return vector


@pytest.fixture
def user():
    columns = {
        EMBEDDING: unit(0)[None, :],
        COUNT: np.array([3.0]),
        AGE: np.array([5.0]),
        "subscribed": np.array([1.0]),
        "tenure_days": np.array([40.0]),
    }
    return UserFeatures("u1", columns, None, None, None, ())


def test_a_row_is_replaced_whole_and_nothing_else(user):
    made = with_row(user, SEARCH_EMBEDDINGS, {EMBEDDING: unit(1).tolist(), COUNT: 2}, age_seconds=60.0)
    assert made.columns[EMBEDDING].tolist() == [unit(1).tolist()]
    assert (made.columns[COUNT].tolist(), made.columns[AGE].tolist()) == ([2.0], [60.0])
    assert made.columns["tenure_days"] is user.columns["tenure_days"]
    assert user.columns[COUNT].tolist() == [3.0], "the user that was given stays"


@pytest.mark.parametrize(("values", "age"), [(None, 0.0), ({EMBEDDING: unit(1).tolist(), COUNT: 2}, 24 * 3_600 + 1.0)])
def test_no_row_and_one_past_its_time_to_live_are_missing_as_serving_has_it(user, values, age):
    made = with_row(user, SEARCH_EMBEDDINGS, values, age_seconds=age)
    assert np.isnan(made.columns[EMBEDDING]).all()
    assert np.isnan([made.columns[COUNT][0], made.columns[AGE][0]]).all()


def test_the_list_without_the_search_is_another_one(user):
    titles = np.stack([unit(0), unit(1)])
    contents = ContentTable(
        ids=("c0", "c1"),
        titles=("zero", "one"),
        categories=np.array(["focus", "move"], dtype=object),
        durations=np.array([60.0, 60.0]),
        columns={"title_embedding": titles, "category": np.array(["focus", "move"], dtype=object)},
        features=FEATURES,
    )

    def score(requests):
        return [
            np.nan_to_num(one.contents.columns["title_embedding"] @ one.user.columns[EMBEDDING][0]) for one in requests
        ]

    scorer = SimpleNamespace(score=score, popular=("c1", "c0"))

    def first(one):
        return ranked(scorer, contents, one, Kind.TODAY, finished=(), limit=2)[0].content_id

    other = with_row(user, SEARCH_EMBEDDINGS, {EMBEDDING: unit(1).tolist(), COUNT: 1}, age_seconds=1.0)
    assert (first(user), first(other)) == ("c0", "c1")
