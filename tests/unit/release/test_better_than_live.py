"""A model that is not better than the live one on the same lists is said to be so, and refused if the gate asks for more."""

import pytest
from pydantic import ValidationError

from release.checks.better_than_live import judge
from release.checks.fairness import judge as judge_gaps
from release.gate import Thresholds
from release.paired import PairedLift
from training.evaluate import Estimate


def lift(value: float, half: float = 0.01) -> PairedLift:
    return PairedLift(Estimate(value=value, low=value - half, high=value + half, lists=1_200), users=300)


def test_a_model_that_is_worse_is_reported_and_passes_where_nothing_is_asked_for() -> None:
    result = judge({"home": lift(-0.1)}, least=None)
    assert result.passed
    assert result.found == "home: -0.1000 (-0.1100 to -0.0900) on the same 1,200 lists of 300 users, worse"
    assert result.numbers["home"] == pytest.approx(-0.1)


def test_a_rise_whose_interval_reaches_below_what_is_asked_for_is_refused_by_name_of_its_kind() -> None:
    result = judge({"home": lift(0.015), "push": None}, least=0.01)
    assert not result.passed
    assert result.examples == ("home",)
    assert result.sentence() == (
        "better than live: found home: +0.0150 (+0.0050 to +0.0250) on the same 1,200 lists of 300 users; push: the live model "
        "again; expected a rise in NDCG@3 over the live model of at least +0.0100 at the lower end of its interval"
    )
    assert judge({"home": lift(0.03)}, least=0.01).passed


def test_a_rise_within_chance_is_said_to_be_none() -> None:
    assert judge({"home": lift(0.005)}, least=None).found.endswith("not better beyond chance")


def test_what_cannot_be_compared_is_no_zero() -> None:
    result = judge({"home": "the live model has learned from every list"}, least=0.0)
    assert not result.passed
    assert result.numbers == {"home": None}
    assert "home: unknown (the live model has learned from every list)" in result.found
    assert judge({"home": "why"}, least=None).passed


def test_the_first_release_has_nothing_to_be_better_than() -> None:
    assert judge(None, least=0.5).passed


def test_thresholds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Thresholds().better_than_live is None
    monkeypatch.setenv("STILLPOINT_GATE_BETTER_THAN_LIVE", "0.01")
    monkeypatch.setenv("STILLPOINT_GATE_FAIRNESS_GAP", "0.05")
    assert (Thresholds().better_than_live, Thresholds().fairness_gap) == (0.01, 0.05)
    monkeypatch.setenv("STILLPOINT_GATE_BETTER_THAN_LIVE", "much")
    with pytest.raises(ValidationError):
        Thresholds()


GAPS = {
    "gap_gender": 0.08,
    "gap_gender_low": 0.06,
    "gap_gender_high": 0.1,
    "gap_tenure": 0.08,
    "gap_tenure_low": 0.01,
    "gap_tenure_high": 0.15,
}


def test_a_gap_above_the_setting_is_refused_only_where_it_is_beyond_chance() -> None:
    result = judge_gaps({"home": GAPS}, most=0.05)
    assert not result.passed
    assert result.examples == ("home gender",)
    assert "home: gender 0.080 (0.060 to 0.100); home: tenure 0.080 (0.010 to 0.150)" in result.found
    assert judge_gaps({"home": GAPS}, most=None).passed
    assert judge_gaps({"home": GAPS}, most=0.07).passed


def test_gaps_that_were_not_recorded_pass_only_where_nothing_is_asked_for() -> None:
    assert judge_gaps({"home": {}}, most=None).passed
    assert not judge_gaps({"home": {}}, most=0.5).passed
