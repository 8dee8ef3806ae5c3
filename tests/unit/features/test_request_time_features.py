"""Request-time features mean the same for training rows and for one user's candidates."""

import numpy as np
import pytest

from stillpoint.clock import DAY, HOUR
from stillpoint.events.types import Category
from stillpoint.features.request_time import compute
from tests.support.wellness import REQUEST_FEATURES

INPUTS = tuple(dict.fromkeys(name for one in REQUEST_FEATURES for name in one.inputs))


def user(rng):
    vector = rng.normal(size=256)
    columns = {name: np.array([3.0]) for name in INPUTS}
    columns |= {"search_embedding": (vector / np.linalg.norm(vector)).astype(np.float32)[None, :]}
    columns |= {"session_play_count": np.array([4.0]), "session_sleep_play_count": np.array([3.0])}
    columns |= {"session_bounce_rate": np.array([0.75]), "session_sleep_bounce_rate": np.array([2 / 3])}
    columns |= {"exertion_rising": np.array([1.0]), "request_timestamp_us": np.array([5 * DAY + 6 * HOUR])}
    return columns


def computed(columns):
    return compute(columns, REQUEST_FEATURES)


def candidates(rng, count):
    titles = rng.normal(size=(count, 256))
    titles /= np.linalg.norm(titles, axis=1, keepdims=True)
    categories = np.array([None, *Category] * count, dtype=object)[:count]
    return {"title_embedding": titles.astype(np.float32), "category": categories}


def test_one_user_broadcast_to_candidates_has_the_bits_of_training_rows():
    rng = np.random.default_rng(1)
    one, many = user(rng), candidates(rng, 29)
    served = computed({**one, **many})
    repeated = computed({**{k: np.repeat(v, 29, axis=0) for k, v in one.items()}, **many})
    for row in range(29):
        single = computed({**one, **{k: v[row : row + 1] for k, v in many.items()}})
        for name, values in served.items():
            assert values[row].tobytes() == single[name][0].tobytes() == repeated[name][row].tobytes(), name
    assert {len(values) for values in served.values()} == {29}
    assert list(served) == [declared.name for declared in REQUEST_FEATURES]


def test_the_cosine_is_the_cosine():
    rng = np.random.default_rng(2)
    one, many = user(rng), candidates(rng, 5)
    expected = many["title_embedding"].astype(float) @ one["search_embedding"][0].astype(float)
    assert computed({**one, **many})["search_title_cosine"] == pytest.approx(expected, abs=1e-12)


def test_a_sleep_candidate_sees_sleep_bounces_and_others_the_rest():
    rng = np.random.default_rng(3)
    columns = {**user(rng), **candidates(rng, 3), "category": np.array(["sleep", "move", None], dtype=object)}
    found = computed(columns)
    assert found["category_bounce_rate"].tolist()[:2] == [2 / 3, 1.0]
    assert np.isnan(found["category_bounce_rate"][2])
    assert found["move_while_rising"].tolist()[:2] == [0.0, 1.0]
    assert np.isnan(found["category_plays"][2])
    assert found["category_play_share"][0] == 3 / 18
    assert found["hour_of_day"].tolist() == [6.0, 6.0, 6.0]


def test_missing_in_is_missing_out():
    columns = {**user(np.random.default_rng(4)), **candidates(np.random.default_rng(4), 7)}
    for name in INPUTS:
        if name in ("category", "request_timestamp_us"):
            continue
        gone = computed({**columns, name: np.full_like(columns[name], np.nan)})
        whole = computed(columns)
        changed = [feature for feature in whole if not np.array_equal(whole[feature], gone[feature], equal_nan=True)]
        assert changed, name
        assert all(np.isnan(gone[feature][gone[feature] != whole[feature]]).all() for feature in changed), name


def test_a_missing_column_is_named():
    with pytest.raises(KeyError, match="exertion_rising"):
        computed({k: v for k, v in user(np.random.default_rng(5)).items() if k != "exertion_rising"})
