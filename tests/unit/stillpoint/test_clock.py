"""A moment is the same as a number and as a datetime."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillpoint.clock import from_micros, to_micros


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_microsecond_survives_the_way_there_and_back(moment: datetime) -> None:
    assert from_micros(to_micros(moment)) == moment


def test_zones_do_not_matter() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert to_micros(moment) == to_micros(moment.astimezone(timezone(timedelta(hours=-8))))


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="a time without a zone"):
        to_micros(datetime(2026, 3, 1))
