"""The catalogue shows every declared feature, and a search finds it by any word of its declaration."""

from console.reading.catalogue import catalogue
from console.sources import Sources
from stillpoint.settings import Settings
from tests.support.wellness import VIEWS


def test_every_declared_feature_has_a_line_with_unit_meaning_window_and_null_rule():
    lines = catalogue(Sources(Settings(_env_file=None)))
    assert {(line.view, line.name) for line in lines} == {(view.name, one.name) for view in VIEWS for one in view}
    windows = {line.name: line.window for line in lines}
    assert (windows["steps_sum_10m"], windows["plays_30d_sleep"], windows["tenure_days"]) == ("10m", "30d", None)
    assert all(line.meaning and line.unit for line in lines)


def test_a_search_finds_by_all_words_in_any_order_and_case():
    lines = catalogue(Sources(Settings(_env_file=None)))
    found = [line.name for line in lines if line.fits("SLOPE heart")]
    assert found == ["heart_rate_slope_10m"]
    assert not any(line.fits("heart tenure") for line in lines)
    assert all(line.fits("") for line in lines)
