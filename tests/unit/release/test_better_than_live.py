"""A model that is not better than the live one is said to be so, and refused if the gate asks for more."""

import pytest
from pydantic import ValidationError

from release.checks.better_than_live import judge
from release.gate import Thresholds

OLD, NEW = "a" * 64, "b" * 64


def test_a_model_that_is_worse_is_reported_and_passes_where_nothing_is_asked_for() -> None:
    result = judge({"home": (NEW, 0.5)}, {"home": (OLD, 0.6)}, least=None)
    assert result.passed
    assert result.found == "home: 0.5000 against 0.6000, not better"
    assert result.numbers["home"] == pytest.approx(-0.1)


def test_a_model_that_gains_too_little_is_refused_by_name_of_its_kind() -> None:
    live = {"home": (OLD, 0.6), "push": (OLD, 0.6)}
    result = judge({"home": (NEW, 0.605), "push": (OLD, 0.6)}, live, least=0.01)
    assert not result.passed
    assert result.examples == ("home",)
    assert result.sentence() == (
        "better than live: found home: 0.6050 against 0.6000; push: the live model again; "
        "expected NDCG@3 at least +0.0100 against the live model"
    )
    assert judge({"home": (NEW, 0.61)}, {"home": (OLD, 0.6)}, least=0.01).passed


@pytest.mark.parametrize(("figure", "live_figure", "named"), [(None, 0.6, NEW), (0.6, None, OLD)])
def test_an_unknown_figure_is_no_zero(figure: float | None, live_figure: float | None, named: str) -> None:
    result = judge({"home": (NEW, figure)}, {"home": (OLD, live_figure)}, least=0.0)
    assert not result.passed
    assert f"unknown (ranker_ndcg_at_3 is not recorded for {named[:12]})" in result.found
    assert judge({"home": (NEW, figure)}, {"home": (OLD, live_figure)}, least=None).passed


def test_the_first_release_has_nothing_to_be_better_than() -> None:
    assert judge({"home": (NEW, None)}, None, least=0.5).passed


def test_threshold_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Thresholds().better_than_live is None
    monkeypatch.setenv("STILLPOINT_GATE_BETTER_THAN_LIVE", "0.01")
    assert Thresholds().better_than_live == 0.01
    monkeypatch.setenv("STILLPOINT_GATE_BETTER_THAN_LIVE", "much")
    with pytest.raises(ValidationError):
        Thresholds()
