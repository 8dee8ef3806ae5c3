"""An app gets a new optional field and a new type: payloads of both are taken, stored, and old events have null there."""

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from ingestion.compact import compact, merge
from stillpoint.app import Event, Name
from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.recorded import RecordedEvents, event_columns, events_table
from stillpoint.events.types import Verdict
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from tests.support.wellness import EVENT_COLUMNS, FEATURES

DAY = date(2026, 1, 1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ARRIVED = int(NOON.timestamp()) * 1_000_000


class Before:
    class View(Event):
        product_id: Name


class After:
    class View(Event):
        product_id: Name
        price: float | None = None
        quantity: int = 1

    class Wish(Event):
        product_id: Name
        private: bool


BEFORE, AFTER = (Before.View,), (After.View, After.Wish)


def payload(number, **fields):
    document = {
        "schema_version": 1,
        "event_id": f"00000000-0000-0000-0000-{number:012x}",
        "user_id": "u1",
        "event_timestamp": "2026-01-01T11:59:00Z",
        "platform": "web",
        "type": "view",
        "product_id": "p1",
    }
    return json.dumps(document | fields).encode()


def commit(lake, events, sequence, *payloads):
    parser = PayloadParser(events)
    arrivals = [parser.parse(one, ARRIVED + number).arrival for number, one in enumerate(payloads)]
    count = len(arrivals)
    places = [f"{sequence}-{number}" for number in range(count)]
    table = events_table(event_columns(events), arrivals, [Verdict.ON_TIME] * count, ["s"] * count, places)
    file = lake.write("events", DAY, f"t-{sequence}", table)
    assert lake.commit(Commit(writer="t", sequence=sequence, at=NOON, files=(file,)))
    return arrivals


def grown(folder):
    """Return a lake with events of the app before, and of the app after."""
    lake = Lake(LocalObjects(folder), FEATURES)
    commit(lake, BEFORE, 0, payload(1))
    commit(lake, AFTER, 1, payload(2, price=9.5), payload(3, type="wish", private=True))
    return lake


def test_a_new_field_and_a_new_type_are_taken_by_the_app_that_declares_them():
    before, after = PayloadParser(BEFORE), PayloadParser(AFTER)
    assert before.parse(payload(1, price=9.5), ARRIVED).dropped_fields == 1
    found = after.parse(payload(1, price=9.5), ARRIVED)
    assert (found.arrival.event.price, found.arrival.event.quantity, found.dropped_fields) == (9.5, 1, 0)
    wish = payload(1, type="wish", private=False)
    assert before.parse(wish, ARRIVED) == MalformedEvent("type", "text 'wish'; expected one of view")
    assert after.parse(wish, ARRIVED).arrival.type == "wish"


def test_events_that_were_stored_before_a_field_have_null_or_what_its_absence_means(tmp_path):
    lake = Lake(grown(tmp_path).objects, FEATURES, event_columns(AFTER))
    rows = lake.read("events").sort_by("event_id")
    assert rows["price"].to_pylist() == [None, 9.5, None]
    assert rows["quantity"].to_pylist() == [None, 1, None]
    old, new, wish = (one.event for one in RecordedEvents(AFTER).on_time(rows))
    assert (old.price, old.quantity, new.price, wish.private) == (None, 1, 9.5, True)


def test_an_app_that_no_longer_has_a_type_reads_the_others(tmp_path):
    lake = Lake(grown(tmp_path).objects, FEATURES, event_columns(BEFORE))
    found = RecordedEvents(BEFORE).on_time(lake.read("events"))
    assert [one.event.product_id for one in found] == ["p1", "p1"]
    assert "price" not in lake.read("events").column_names


def test_without_an_app_events_have_every_column_that_a_file_has(tmp_path):
    assert {"price", "private"} <= set(grown(tmp_path).read("events").column_names)
    empty = Lake(LocalObjects(tmp_path / "empty"), FEATURES).read("events", columns=["user_id", "verdict"])
    assert (empty.num_rows, empty.column_names) == (0, ["user_id", "verdict"])


@pytest.mark.parametrize("rewrite", [compact, merge])
def test_files_that_are_put_together_keep_columns_that_the_app_of_today_lacks(tmp_path, rewrite, monkeypatch):
    monkeypatch.setattr("ingestion.compact.MANY_FILES", 2)
    lake = Lake(grown(tmp_path).objects, FEATURES, event_columns(BEFORE))
    days = {"before": date(2026, 1, 2)} if rewrite is compact else {"since": DAY}
    assert rewrite(lake, at=NOON, **days)["events"]
    table = Lake(lake.objects, FEATURES, event_columns(AFTER)).read("events").sort_by("event_id")
    assert len(lake.files("events")) == 1
    assert table["price"].to_pylist() == [None, 9.5, None]
    assert table["private"].to_pylist() == [None, None, True]


def test_the_default_app_stores_the_very_columns_that_it_stored_before_they_were_declared():
    names = "event_id user_id type event_timestamp arrived_at platform screen query play_id content_id category "
    names += "position_seconds heart_rate_bpm steps recommendation_id kind items surface verdict shard sequence"
    assert EVENT_COLUMNS.names == names.split()
    types = {field.name: field.type for field in EVENT_COLUMNS}
    told = [types[name] for name in ("position_seconds", "heart_rate_bpm", "steps", "items")]
    assert told == [pa.float64(), pa.float64(), pa.int64(), pa.list_(pa.string())]
    assert [field.nullable for field in EVENT_COLUMNS] == [False] * 6 + [True] * 12 + [False] * 3
