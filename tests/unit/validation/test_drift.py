"""A shift is found in each type of feature, and none where there is none."""

import numpy as np
import pytest
from scipy.stats import entropy

from stillpoint.app.records import Feature
from stillpoint.dtypes import DType
from stillpoint.errors import InvalidSettings
from validation.drift import DriftLimits, centroid_shift, compare, stability_index


def feature(dtype: DType) -> Feature:
    return Feature(name="f", dtype=dtype, unit="", description="")


def drifted(dtype, before, after):
    return {one.measure for one in compare(feature(dtype), before, after, DriftLimits()) if one.drifted}


def numbers(seed, mean=0.0, count=2_000):
    return np.random.default_rng(seed).normal(mean, 1, count).astype(object)


def vectors(seed, direction):
    found = np.random.default_rng(seed).normal(0, 0.2, (400, 256))
    found[:, direction] += 1
    return found.astype(np.float32)


def test_two_samples_of_one_distribution_do_not_drift():
    assert drifted(DType.FLOAT64, numbers(1), numbers(2)) == set()
    texts = [np.random.default_rng(seed).choice(["a", "b", "c"], 2_000).astype(object) for seed in (1, 2)]
    assert drifted(DType.STRING, *texts) == set()
    assert drifted(DType.EMBEDDING, vectors(1, 0), vectors(2, 0)) == set()
    flags = [np.random.default_rng(seed).random(2_000) < 0.3 for seed in (1, 2)]
    assert drifted(DType.BOOL, *(side.astype(object) for side in flags)) == set()


def test_a_shift_is_found_in_each_type():
    assert drifted(DType.FLOAT64, numbers(1), numbers(2, mean=1)) == {"population stability index", "KS distance"}
    before, after = (np.array(list(text * 400), dtype=object) for text in ("aab", "abb"))
    assert drifted(DType.STRING, before, after) == {"JS distance"}
    assert drifted(DType.EMBEDDING, vectors(1, 0), vectors(2, 1)) == {"centroid shift"}


def test_values_that_go_missing_are_found():
    after = numbers(2)
    after[::4] = None
    assert drifted(DType.FLOAT64, numbers(1), after) == {"null share"}


def test_a_handful_of_values_says_nothing():
    assert drifted(DType.FLOAT64, numbers(1), numbers(2, mean=9, count=20)) == set()


def test_the_index_is_the_symmetric_relative_entropy_of_the_bins():
    before, after = numbers(3).astype(float), numbers(4, mean=0.5).astype(float)
    edges = np.quantile(before, np.linspace(0, 1, 11))[1:-1]
    p, q = (np.bincount(np.searchsorted(edges, side), minlength=10) + 0.5 for side in (before, after))
    assert stability_index(before, after) == pytest.approx(entropy(p, q) + entropy(q, p))


def test_directions_that_are_opposite_are_two_apart():
    ones = np.ones((3, 4))
    assert centroid_shift(ones, ones) == pytest.approx(0)
    assert centroid_shift(ones, -ones) == pytest.approx(2)


def test_limits_come_from_variables_and_what_is_given_goes_before_them(monkeypatch):
    assert DriftLimits.load().stability_index == 0.25
    monkeypatch.setenv("STILLPOINT_DRIFT_STABILITY_INDEX", "0.4")
    monkeypatch.setenv("STILLPOINT_DRIFT_MINIMUM_VALUES", "7")
    found = DriftLimits.load(stability_index=0.5, ks_distance=None)
    assert (found.stability_index, found.ks_distance, found.minimum_values) == (0.5, 0.2, 7)


def test_malformed_limits_are_refused_all_at_once_in_one_sentence(monkeypatch):
    monkeypatch.setenv("STILLPOINT_DRIFT_JS_DISTANCE", "much")
    with pytest.raises(InvalidSettings) as refused:
        DriftLimits.load(null_share=-1.0)
    assert str(refused.value) == (
        "limits refused; STILLPOINT_DRIFT_JS_DISTANCE is 'much': Input should be a valid number, unable to parse string as "
        "a number; null_share is -1.0: Input should be greater than 0"
    )
