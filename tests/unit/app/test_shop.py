"""The shop's app, of declarations only, is without a fault, and its views answer as expected for a few events."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stillpoint.app.load import load_app
from stillpoint.app.testing import at, feed

SHOP = Path(__file__).parents[3] / "examples" / "shop"


@pytest.fixture(scope="module")
def shop():
    return load_app(str(SHOP))


def types(shop):
    return {event.type_name: event for event in shop.events}


def view(shop, name):
    return next(one for one in shop.views if one.name == name)


class OneDirection:
    sha256 = "0" * 64

    def encode(self, texts):
        return np.ones((len(texts), 256), dtype=np.float32) / 16


def test_it_has_no_fault_and_names_its_features_by_window(shop):
    assert [one.name for one in shop.views] == ["browsing", "visit", "buying", "searching", "demand", "interest"]
    browsing = next(one for one in shop.records if one.name == "browsing")
    assert browsing.feature_names[:3] == ("views_10m", "views_1h", "views_30d")
    assert "rounded down to 24h" in browsing.features[2].description
    assert shop.digest == load_app(str(SHOP)).digest


def test_what_a_user_browsed_and_bought(shop):
    of = types(shop)
    rows = feed(
        view(shop, "browsing"),
        at(of["view"], "12:00", product_id="p", category="shoes"),
        at(of["view"], "12:05", product_id="q", category="hats"),
        at(of["cart"], "12:06", product_id="p", category="shoes", price=10.0),
        at(of["purchase"], "12:30", product_id="p", category="shoes", price=10.0),
    )
    last = rows.last()
    assert (last["views_10m"], last["views_1h"], last["views_30d"], last["carts_1h"]) == (0, 2, 2, 1)
    assert (last["last_category"], last["top_category"], last["conversion"]) == ("shoes", "hats", 0.5)
    assert last["cart_price"] == 10.0


def test_what_a_product_is_asked_for_by_many_users_in_steps_of_five_minutes(shop):
    of = types(shop)
    rows = feed(
        view(shop, "demand"),
        at(of["view"], "12:01", product_id="p", category="shoes", user_id="u1"),
        at(of["view"], "12:04", product_id="p", category="shoes", user_id="u2"),
        at(of["cart"], "12:06", product_id="p", category="shoes", user_id="u1"),
    )
    assert [moment.minute for moment in rows.column("event_timestamp")] == [5, 10]
    assert rows.column("demand_views_1h") == [2, 2]
    assert rows.column("demand_carts_1h") == [0, 1]


def test_a_users_interest_in_a_category_has_two_keys(shop):
    of = types(shop)
    rows = feed(
        view(shop, "interest"),
        at(of["view"], "12:00", category="shoes"),
        at(of["view"], "12:01", category="hats"),
        at(of["view"], "12:02", category="shoes"),
    )
    assert rows.columns[:2] == ("user_id", "category")
    assert [row[1] for row in rows.values] == ["hats", "shoes", "shoes"]
    assert rows.column("category_views_24h") == [1, 1, 2]


def test_a_visit_ends_after_half_an_hour_and_searches_become_a_direction(shop):
    of = types(shop)
    rows = feed(view(shop, "visit"), at(of["view"], "12:00"), at(of["cart"], "12:30"), at(of["view"], "13:00:01"))
    assert rows.column("visit_views") == [1, 1, 1]
    assert rows.column("visit_age") == [0.0, 1800.0, 0.0]
    assert rows.column("visit_cart") == [False, True, False]
    searched = feed(view(shop, "searching"), at(of["search"], "12:00", query="boots"), encoder=OneDirection())
    assert np.allclose(searched.last()["search_direction"], 1 / 16)


def test_declarations_import_nothing_heavy():
    program = (
        "import sys; from stillpoint.app.load import load_app; load_app(sys.argv[1]);"
        "print([m for m in ('feast', 'pyspark', 'pandas', 'great_expectations', 'pyarrow', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(SHOP)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
