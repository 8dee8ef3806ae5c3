"""Daily rows are never written for a day that has not begun, by whoever asks."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ingestion.daily import daily
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.errors import InvalidInput
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.wellness import APP, FEATURES

AT = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "at", "told"),
    [
        (date(2030, 1, 1), date(2030, 1, 2), AT, "day 2030-01-02 has not begun: it is 2026-03-02 in UTC"),
        (date(2026, 3, 1), date(2026, 3, 3), AT, "day 2026-03-03 has not begun"),
        (
            date(2026, 3, 1),
            date(2026, 3, 3),
            AT.astimezone(timezone(timedelta(hours=9))),
            "day 2026-03-03 has not begun",
        ),
        (date(2026, 3, 2), date(2026, 3, 1), AT, "the first day 2026-03-02 is after the last, 2026-03-01"),
    ],
)
def test_a_day_that_has_not_begun_and_a_turned_range_are_refused_and_nothing_is_written(
    first: date, last: date, at: datetime, told: str, tmp_path: Path
) -> None:
    lake = Lake(LocalObjects(tmp_path), FEATURES)
    with pytest.raises(InvalidInput, match=told):
        daily(lake, first, last, at=at, app=APP, encoder=RememberingEncoder(WordLlamaEncoder()), writers={})
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
