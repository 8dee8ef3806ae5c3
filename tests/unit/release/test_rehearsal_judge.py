"""The judge of a rehearsal finds what is failed, mixed or another user's, and nothing else."""

from typing import Any

import pytest

from release.rehearsal.judge import RecordedAnswer, ReleaseIdentity, judge
from release.rehearsal.plan import Fault, plan_flips

MADE = {
    "r0001": ReleaseIdentity(mapping_version=1, read_plan_sha256="p1", models={"today": "m1"}),
    "r0002": ReleaseIdentity(mapping_version=2, read_plan_sha256="p2", models={"today": "m2"}),
}
EXPECTED = {
    "r0001": {"ann": {"a": 1.0, "b": 0.0}, "bob": {"a": 0.0, "b": 1.0}},
    "r0002": {"ann": {"a": 2.0, "b": 0.0}, "bob": {"a": 0.0, "b": 2.0}},
}


def answer(**changes: Any) -> RecordedAnswer:
    values: dict[str, Any] = {
        "at": 1.0,
        "seconds": 0.01,
        "user_id": "ann",
        "status": 200,
        "releases": ("r0001", "r0001"),
        "mapping_version": 1,
        "read_plan_sha256": "p1",
        "models": {"today": "m1"},
        "source": "model",
        "scores": {"a": 1.0, "b": 0.0},
    }
    return RecordedAnswer(**{**values, **changes})


def test_answers_of_one_release_each_pass() -> None:
    second = answer(
        releases=("r0002",), mapping_version=2, read_plan_sha256="p2", models={"today": "m2"}, scores={"a": 2.0}
    )
    verdict = judge([answer(), second], MADE, EXPECTED)
    assert verdict.passed
    assert verdict.per_release == {"r0001": 1, "r0002": 1}


def test_no_answers_are_no_pass() -> None:
    assert not judge([], MADE, EXPECTED).passed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"releases": ("r0001", "r0002")}, "it names r0001, r0002"),
        ({"releases": ()}, "it names no release"),
        ({"releases": ("r0009",)}, "it names r0009, which is not part of the rehearsal"),
        ({"mapping_version": 2}, "r0001 with mapping 2"),
        ({"read_plan_sha256": "p2"}, "r0001 with another read plan"),
        ({"models": {"today": "m2"}}, "r0001 with another model"),
    ],
)
def test_an_answer_made_of_two_releases_is_mixed(changes: dict[str, Any], words: str) -> None:
    verdict = judge([answer(**changes)], MADE, EXPECTED)
    assert (verdict.mixed, verdict.failed, verdict.wrong_user) == (1, 0, 0)
    assert words in verdict.examples[0]
    assert not verdict.passed


def test_an_answer_with_another_canarys_scores_is_somebody_elses() -> None:
    verdict = judge([answer(scores={"a": 0.0, "b": 1.0})], MADE, EXPECTED)
    assert verdict.wrong_user == 1
    assert verdict.examples == ("wrong user at 1.00 s: ann got what is bob's in r0001",)


def test_scores_that_moved_a_little_with_age_are_still_ones_own() -> None:
    assert judge([answer(scores={"a": 0.93, "b": 0.02})], MADE, EXPECTED).passed


def test_an_answer_that_names_another_user_is_somebody_elses() -> None:
    assert judge([answer(answered_user="bob")], MADE, EXPECTED).wrong_user == 1


def test_a_fallback_is_nobodys_ranking_and_is_counted() -> None:
    verdict = judge([answer(source="fallback", scores={"b": 0.0})], MADE, EXPECTED)
    assert verdict.passed
    assert verdict.fallbacks == 1


def test_an_error_is_failed_and_not_judged_further() -> None:
    verdict = judge([answer(status=500, error="boom"), answer(status=0, error="ReadTimeout")], MADE, EXPECTED)
    assert (verdict.failed, verdict.mixed) == (2, 0)
    assert verdict.examples[0] == "failed at 1.00 s: boom"


def test_the_plan_follows_from_the_seed_and_uses_every_fault_before_repeating_one() -> None:
    planned = plan_flips(seed=7, flips=10)
    assert planned == plan_flips(seed=7, flips=10)
    assert planned != plan_flips(seed=8, flips=10)
    assert {flip.fault for flip in planned[:5]} == set(Fault)
    assert {flip.fault for flip in planned[5:]} == set(Fault)
