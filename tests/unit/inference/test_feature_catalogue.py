"""The catalogue says of every feature what it means, and of one how it is distributed, how fresh it is and who uses it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from stillpoint.app.described import entries, entry, page
from stillpoint.app.load import load_app
from stillpoint.cli import run
from stillpoint.errors import NotFound
from stillpoint.features.columns import feature_columns
from stillpoint.features.distribution import distribution
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake

SHOP = load_app(str(Path(__file__).parents[3] / "examples" / "shop"))
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def shop(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLPOINT_APP", str(SHOP.folder))
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    return Lake(LocalObjects(tmp_path / "lake"), SHOP.features)


def test_every_feature_of_an_app_has_a_meaning_a_unit_and_its_source_events():
    found = entries(SHOP)
    assert [one.reference for one in found] == [
        f"{view.name}:{name}" for view in SHOP.records for name in view.feature_names
    ]
    assert all(one.meaning and one.unit and one.events for one in found)
    rate = entry(SHOP, "browsing:conversion")
    assert (rate.unit, rate.values, rate.owner, rate.entity) == ("share", "0 to 1", "discovery", ("user_id",))
    assert "30d" in rate.window
    assert rate.events == ("cart", "purchase", "view")
    assert entry(SHOP, "category_views_24h").entity == ("user_id", "category")


def test_a_name_that_no_view_has_is_refused():
    with pytest.raises(NotFound, match="app shop has no feature sales; `stillpoint features list` names all"):
        entry(SHOP, "sales")


def test_the_page_has_a_row_for_every_feature():
    text = page(SHOP)
    assert all(f"| `{one.name}` |" in text for one in entries(SHOP))


def test_a_distribution_counts_nulls_and_tells_how_old_the_newest_row_is():
    times = [NOON, NOON + timedelta(minutes=1)]
    rows = pa.table({"event_timestamp": pa.array(times, pa.timestamp("us", "UTC")), "n": [4, None], "word": ["a", "a"]})
    now = NOON + timedelta(minutes=3)
    numbers = distribution(rows, "n", now=now)
    assert numbers == {
        "rows": 2, "null_share": 0.5, "least": 4, "mean": 4.0, "greatest": 4, "newest": "2026-01-01T12:01:00+00:00", "age_seconds": 120.0,
    }  # fmt: skip
    assert distribution(rows, "word", now=now)["most_frequent"] == {"a": 2}
    assert distribution(rows.slice(0, 0), "n", now=now) == {}


def test_the_command_lists_the_app_that_the_settings_name(shop, capsys):
    assert run(["features", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["view"] for one in told} == {view.name for view in SHOP.records}
    assert run(["features", "list"]) == 0
    assert "demand:demand_views" in capsys.readouterr().out


def test_the_command_shows_a_feature_with_what_the_lake_has_of_it(shop, capsys):
    assert run(["features", "show", "searches_1h"]) == 0
    assert "no rows yet" in capsys.readouterr().out
    view = next(one for one in SHOP.records if one.name == "searching")
    moment = pa.array([NOON], pa.timestamp("us", "UTC"))
    known = {"user_id": ["u"], "event_timestamp": moment, "created_timestamp": moment, "searches_1h": [3]}
    columns = feature_columns(view)
    table = pa.table([known.get(one.name, pa.nulls(1, one.type)) for one in columns], schema=columns)
    file = shop.write(f"features/{view.name}", NOON.date(), "t", table)
    shop.commit(Commit(writer="t", sequence=0, at=NOON, files=(file,)))
    assert run(["features", "show", "searching:searches_1h", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["distribution"]["mean"], told["distribution"]["rows"], told["releases"]) == (3.0, 1, {})
    assert run(["features", "show", "nothing"]) == 1
    assert "no feature nothing" in capsys.readouterr().err
