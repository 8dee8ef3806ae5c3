"""A day sees what was known at its start, and nothing else."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from stillpoint.clock import DAY, HOUR, to_micros
from stillpoint.events.recorded import events_table
from stillpoint.events.types import CATALOGUE_COLUMNS, USER_COLUMNS, Category, EventType, Verdict
from stillpoint.features.columns import feature_columns
from stillpoint.features.daily import daily_tables, days_between
from tests.support.wellness import APP, EVENT_COLUMNS, arrival, on_time_events

D = datetime(2026, 3, 1, tzinfo=UTC)
D_US = to_micros(D)
TODAY = D.date()


class OneDirection:
    sha256 = "0" * 64

    def encode(self, texts):
        rows = np.zeros((len(texts), 256), dtype=np.float32)
        rows[:, 0] = [np.nan if text == "?" else 1.0 for text in texts]
        return rows


def play(number, type, event_us, *, user="u1", play="p1", content="c1", category=Category.SLEEP, arrived_us=None):
    event_id = f"00000000-0000-0000-0000-{number:012x}"
    arrived_us = event_us + 1 if arrived_us is None else arrived_us
    position = None if type is EventType.CONTENT_START else 5.0
    return arrival(
        event_id, user, type, event_us, arrived_us,
        play_id=play, content_id=content, category=category, position_seconds=position,
    )  # fmt: skip


START, COMPLETE = EventType.CONTENT_START, EventType.CONTENT_COMPLETE


def users(*rows):
    return pa.Table.from_pylist(
        [
            {"signed_up_at": D - timedelta(days=400), "gender": None, "locale": "de-DE", "subscribed": True, "push_opt_in": True, "updated_at": D - timedelta(days=1), **row}
            for row in rows
        ],
        schema=USER_COLUMNS,
    )  # fmt: skip


def catalogue(*rows):
    return pa.Table.from_pylist(
        [
            {"title": "Rain", "description": "", "category": "sleep", "duration_seconds": 60, "published_at": D, "updated_at": D - timedelta(days=1), **row}
            for row in rows
        ],
        schema=CATALOGUE_COLUMNS,
    )  # fmt: skip


def computed(events=(), *, user_rows=(), contents=(), days=(TODAY,), verdict=Verdict.ON_TIME):
    count = len(events)
    table = events_table(EVENT_COLUMNS, events, [verdict] * count, ["s"] * count, [str(n) for n in range(count)])
    found = {}
    for day, view, rows in daily_tables(
        list(days),
        APP.daily_views,
        events=table,
        tables={"users": users(*user_rows), "catalogue": catalogue(*contents)},
        encoder=OneDirection(),
    ):
        assert rows.schema == feature_columns(view)
        key = view.entity.join_key
        for row in rows.to_pylist():
            assert (
                row["event_timestamp"] == row["created_timestamp"] == datetime(day.year, day.month, day.day, tzinfo=UTC)
            )
            found[day, view.name, row[key]] = row
    return found


@pytest.mark.parametrize(
    ("age", "days", "level"),
    [
        (timedelta(0), 0, "new"),
        (timedelta(days=30) - timedelta(microseconds=1), 29, "new"),
        (timedelta(days=30), 30, "regular"),
        (timedelta(days=365) - timedelta(microseconds=1), 364, "regular"),
        (timedelta(days=365), 365, "loyal"),
        (timedelta(days=-3), 0, "new"),
    ],
)
def test_tenure_is_whole_days_since_sign_up(age, days, level):
    row = computed(user_rows=[{"user_id": "u1", "signed_up_at": D - age}])[TODAY, "user_profiles", "u1"]
    assert (row["tenure_days"], row["tenure_level"], row["gender"]) == (days, level, None)


def test_the_newest_user_row_updated_before_the_day_counts():
    rows = [
        {"user_id": "u1", "locale": "old", "updated_at": D - timedelta(days=2)},
        {"user_id": "u1", "locale": "new", "updated_at": D - timedelta(microseconds=1)},
        {"user_id": "u1", "locale": "future", "updated_at": D},
        {"user_id": "u2", "updated_at": D},
    ]
    found = computed(user_rows=rows)
    assert found[TODAY, "user_profiles", "u1"]["locale"] == "new"
    assert (TODAY, "user_profiles", "u2") not in found


def test_plays_happened_and_arrived_before_the_day_within_thirty_days():
    events = [
        play(1, START, D_US - 30 * DAY, play="a"),
        play(2, START, D_US - 30 * DAY - 1, play="b"),
        play(3, START, D_US - 2, play="c", arrived_us=D_US - 1),
        play(4, START, D_US - 1, play="d", arrived_us=D_US),
        play(5, START, D_US, play="e", arrived_us=D_US - 1),
        play(6, START, D_US - HOUR, play="c"),
        play(7, COMPLETE, D_US - 3, play="c", arrived_us=D_US - 2),
    ]
    found = computed(
        events,
        user_rows=[{"user_id": "u1"}, {"user_id": "idle"}],
        contents=[{"content_id": "c1"}, {"content_id": "c2", "title": "?"}],
    )
    taste = found[TODAY, "user_taste", "u1"]
    assert (taste["plays_30d_sleep"], taste["completion_rate_30d_sleep"]) == (2, 0.5)
    assert (taste["plays_30d_focus"], taste["completion_rate_30d_focus"]) == (0, None)
    idle = found[TODAY, "user_taste", "idle"]
    assert (idle["plays_30d_sleep"], idle["completion_rate_30d_sleep"]) == (0, None)
    content = found[TODAY, "content_profiles", "c1"]
    assert (content["plays_7d"], content["completion_rate_30d"]) == (1, 0.5)
    assert content["title_embedding"] == [1.0] + [0.0] * 255
    silent = found[TODAY, "content_profiles", "c2"]
    assert (silent["plays_7d"], silent["completion_rate_30d"], silent["title_embedding"]) == (0, None, None)


def test_the_earliest_start_decides_the_category_and_equal_times_go_by_event_id():
    events = [
        play(9, START, D_US - HOUR, category=Category.FOCUS),
        play(8, START, D_US - HOUR, category=Category.MOVE),
        play(1, START, D_US - HOUR + 1, category=Category.SLEEP),
    ]
    taste = computed(events)[TODAY, "user_taste", "u1"]
    assert [taste[f"plays_30d_{c}"] for c in ("focus", "move", "sleep")] == [0, 1, 0]


def test_late_events_do_not_count():
    assert computed([play(1, START, D_US - HOUR)], verdict=Verdict.LATE) == {}


def test_a_range_of_days_equals_its_days_one_by_one():
    days = days_between(date(2026, 2, 20), date(2026, 3, 2))
    events = [play(n, START if n % 3 else COMPLETE, D_US - n * 7 * HOUR, play=f"p{n // 2}") for n in range(150)]
    together = computed(events, user_rows=[{"user_id": "u1", "updated_at": D - timedelta(days=5)}], days=days)
    apart = {}
    for day in days:
        apart |= computed(events, user_rows=[{"user_id": "u1", "updated_at": D - timedelta(days=5)}], days=[day])
    assert together == apart


def test_stored_events_come_back_as_they_were_each_record_once():
    events = [play(1, START, D_US), play(2, COMPLETE, D_US)]
    table = events_table(EVENT_COLUMNS, events, [Verdict.ON_TIME] * 2, ["s"] * 2, ["1", "2"])
    assert on_time_events(pa.concat_tables([table, table])) == events
