"""Durations are read as people write them, and refused with the accepted forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillpoint.durations import FORMS, format_duration, seconds_of
from stillpoint.errors import InvalidSettings
from stillpoint.settings import Settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("10m", 600),
        ("1.5 h", 5400),
        ("P3650D", 315_360_000),
        ("pt5m", 300),
        ("250ms", 0.25),
        ("P2W", 1_209_600),
    ],
)
def test_a_duration_is_seconds_a_unit_or_iso_8601(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1e400", "ten", "10 months", "P1M", "P", "PT", "P1DT", "1,5", "10m5"]
)
def test_anything_else_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration") as refused:
        seconds_of(text)
    assert FORMS in str(refused.value)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_written_duration_reads_as_itself(seconds: int) -> None:
    assert seconds_of(format_duration(seconds)) == seconds


def test_settings_take_durations_and_name_the_variable_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLPOINT_MAX_EVENT_AGE", "P3650D")
    monkeypatch.setenv("STILLPOINT_HTTP_SECONDS", "750ms")
    loaded = Settings.load()
    assert (loaded.max_event_age, loaded.http_seconds) == (315_360_000, 0.75)
    monkeypatch.setenv("STILLPOINT_ROLLBACK_KEEP", "soon")
    with pytest.raises(InvalidSettings, match=r"STILLPOINT_ROLLBACK_KEEP: .*'soon' is no duration; expected seconds"):
        Settings.load()
