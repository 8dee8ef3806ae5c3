"""The metrics are what one computes by hand, and nothing is not zero."""

import math

import numpy as np
import pytest

from training.evaluate import (
    Draws,
    Estimate,
    JudgedRows,
    calibration_error,
    codes,
    compare,
    coverage,
    gaps,
    score_lists,
)


def judged(labels, lists=None, users=None):
    count = len(labels)
    return JudgedRows(
        list_id=np.array(lists or ["l1"] * count),
        user=np.array(users or ["u1"] * count),
        content=np.array([f"c{n}" for n in range(count)]),
        label=np.array(labels, np.float32),
    )


def test_recall_and_ndcg_are_those_computed_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    found = score_lists(judged([0, 1, 0, 1]), scores, k=3)
    assert found.recall.tolist() == [0.5]
    best = 1 + 1 / math.log2(3)
    assert found.ndcg[0] == pytest.approx((1 / math.log2(3)) / best)


def test_a_perfect_order_is_one_and_a_null_score_ranks_last():
    assert score_lists(judged([1, 1, 0, 0]), np.array([4.0, 3, 2, 1]), k=2).ndcg.tolist() == [1.0]
    assert score_lists(judged([1, 0, 0, 0]), np.array([np.nan, 1, 1, 1]), k=3).recall.tolist() == [0.0]


def test_lists_without_a_success_do_not_count():
    found = score_lists(judged([0, 0, 1, 0], ["l1", "l1", "l2", "l2"]), np.array([1.0, 0, 1, 0]), k=1)
    assert found.list_id.tolist() == ["l2"]


def test_ties_are_broken_alike_for_every_ranking():
    rows = judged([1, 0, 0, 0, 0])
    one, other = (score_lists(rows, np.full(5, value), k=2).ndcg.tolist() for value in (0.0, 7.0))
    assert one == other


def test_an_interval_holds_its_mean_and_draws_users_not_lists():
    values, users = np.array([0.0] * 50 + [1.0] * 50), np.repeat(["a", "b"], 50)
    found = Draws(users, seed=7).estimate(values)
    assert found.low <= found.value == 0.5 <= found.high
    assert (found.low, found.high) == (0.0, 1.0), "two users say little, however many lists they have"


def test_an_empty_group_is_null_and_can_be_read_again():
    rows = judged([1, 0])
    found = compare(rows, {"ranker": np.array([1.0, 0])}, {"nobody": np.array([False, False])}, ks=(1,), seed=7)
    kept = found["nobody"]["ranker"]["ndcg@1"].model_dump_json()
    assert '"value":null' in kept
    again = Estimate.model_validate_json(kept)
    assert again.lists == 0
    assert math.isnan(again.value)


def test_calibration_is_the_gap_between_promise_and_outcome_and_nothing_of_nothing():
    promised = np.full(100, 0.3)
    assert calibration_error(promised, np.array([1.0] * 30 + [0.0] * 70), bins=1) == pytest.approx(0)
    assert calibration_error(promised, np.ones(100), bins=1) == pytest.approx(0.7)
    assert math.isnan(calibration_error(np.array([]), np.array([])))


def test_coverage_is_the_share_of_contents_that_come_first_somewhere():
    rows = judged([0, 0, 0, 0], ["l1", "l1", "l2", "l2"])
    assert coverage(rows, np.array([1.0, 0, 1, 0]), k=1) == 0.5
    assert math.isnan(coverage(judged([]), np.array([]), k=1))


def test_numbers_in_place_of_ids_change_no_result():
    random = np.random.default_rng(1)
    ids = [np.array([f"{letter}{number}" for number in random.integers(0, 30, 400)]) for letter in "luc"]
    label = (random.random(400) < 0.3).astype(np.float32)
    rankings = {"one": random.random(400).round(1), "other": random.random(400)}
    found = []
    for list_id, user, content in (ids, [codes(one) for one in ids]):
        rows = JudgedRows(list_id=list_id, user=user, content=content, label=label)
        groups = {"some": np.isin(ids[0], ids[0][:50]), "nobody": np.zeros(400, dtype=bool)}
        found.append(str(compare(rows, rankings, groups, ks=(3,), seed=7)))
    assert found[0] == found[1]


def test_estimates_of_the_same_lists_share_their_draws_with_one_made_alone():
    users = np.array(["a", "b", "c", "b"])
    draws = Draws(users, seed=7)
    first, second = np.array([0.0, 1, 2, 3]), np.array([1.0, 0, 0, 5])
    assert [draws.estimate(first), draws.estimate(second)] == [
        Draws(users, seed=7).estimate(first),
        Draws(users, seed=7).estimate(second),
    ]


def test_a_gap_is_the_best_served_group_less_the_worst_with_an_interval_and_few_lists_are_no_group():
    lists = np.repeat([f"l{n:03d}" for n in range(150)], 2)
    group = np.repeat(np.array(["a"] * 60 + ["b"] * 60 + ["few"] * 10 + [None] * 20, object), 2)
    scores = np.array([1.0, 0.0] * 60 + [0.0, 1.0] * 60 + [0.0, 1.0] * 30)
    rows = JudgedRows(list_id=lists, user=lists, content=np.tile(["c0", "c1"], 150), label=np.tile([1.0, 0.0], 150))
    found = gaps(rows, scores, {"group": group, "nobody": np.full(300, None)}, k=1, seed=7)
    assert (found["group"].value, found["group"].low, found["group"].lists) == (1.0, 1.0, 120)
    assert math.isnan(found["nobody"].value)


def test_a_recall_at_which_every_list_fits_whole_is_left_out():
    found = compare(judged([1, 0, 0]), {"one": np.array([1.0, 0, 0])}, {}, ks=(2, 3), seed=7)["all"]["one"]
    assert set(found) == {"recall@2", "ndcg@2", "ndcg@3", "ndcg_lift"}
