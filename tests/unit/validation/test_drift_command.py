"""`stillpoint validate drift` goes by the limits that it is given, and its page replaces another only whole."""

import json
import os
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest

import stillpoint.snapshots
from stillpoint.cli import run
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from tests.support.wellness import FEATURES, USER_PROFILES

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = "--since=2026-03-01"


def profiles(count, tenure):
    rows = [
        {
            "user_id": f"u{n}",
            "event_timestamp": NOON,
            "created_timestamp": NOON,
            "tenure_days": tenure + n,
            "tenure_level": "loyal",
            "gender": "female",
            "locale": "de",
            "subscribed": n % 2 == 0,
        }
        for n in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=feature_columns(USER_PROFILES))


@pytest.fixture
def moved(tmp_path, monkeypatch):
    """A lake in which users have stayed thirty days longer than those of the snapshot."""
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    file = lake.write(feature_dataset(USER_PROFILES), NOON.date(), "now", profiles(200, 430))
    lake.commit(Commit(writer="now", sequence=0, at=NOON, files=(file,)))
    rows = profiles(200, 400)
    for view in FEATURES.stored:
        for feature in view:
            if feature.name not in rows.schema.names:
                rows = rows.append_column(feature.name, pa.nulls(200))
    monkeypatch.setattr(stillpoint.snapshots, "load_snapshot", lambda lake, name: SimpleNamespace(rows=rows))
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    return tmp_path


def drifted(capsys):
    found = json.loads(capsys.readouterr().out)["moved"]["lake"]
    return {(one["feature"], one["measure"]) for one in found if one["value"] > one["limit"]}


def test_what_counts_as_drift_follows_the_options_and_the_variables(moved, monkeypatch, capsys):
    command = ["validate", "drift", "s0123456789abcdef", SINCE, "--json"]
    assert run([*command, "--psi", "0.1", "--ks", "0.1"]) == 1
    both = {("tenure_days", "population stability index"), ("tenure_days", "KS distance")}
    assert drifted(capsys) == both
    assert run([*command, "--psi", "9", "--ks", "0.1"]) == 1
    assert drifted(capsys) == {("tenure_days", "KS distance")}
    monkeypatch.setenv("STILLPOINT_DRIFT_KS_DISTANCE", "0.9")
    assert run([*command, "--psi", "9"]) == 0
    assert drifted(capsys) == set()
    assert run([*command, "--least", "500"]) == 1, "nothing to compare is not a pass"
    assert drifted(capsys) == set()


def test_a_limit_that_makes_no_sense_is_refused_in_a_sentence(moved, capsys):
    assert run(["validate", "drift", "s0123456789abcdef", SINCE, "--psi", "-1"]) == 2
    assert "'--psi': '-1'; expected a number from 0 to 1000" in capsys.readouterr().err


def test_a_page_that_cannot_be_finished_leaves_the_old_one_and_nothing_beside_it(moved, monkeypatch):
    page = moved / "drift.html"
    page.write_text("the old page")

    def full(handle):
        raise OSError(28, "No space left on device", str(page))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert run(["validate", "drift", "s0123456789abcdef", SINCE, "--html", str(page)]) == 1
    assert page.read_text() == "the old page"
    assert [one.name for one in moved.iterdir() if one.is_file()] == ["drift.html"]
    assert run(["validate", "drift", "s0123456789abcdef", SINCE, "--html", str(page)]) == 1
    assert "tenure_days (lake): population stability index" in page.read_text()


def test_the_page_of_drift_names_its_verdict_begins_with_what_moved_furthest_and_fetches_nothing(moved):
    page = moved / "drift.html"
    run(["validate", "drift", "s0123456789abcdef", SINCE, "--psi", "0.1", "--ks", "0.1", "--html", str(page)])
    shown = page.read_text()
    assert "<title>Drift: 2 measures beyond their limits</title>" in shown
    assert shown.index("<tr class='red'>") < shown.index("<tr><td>")
    assert "<svg" in shown
    assert all(address.startswith("#") for address in re.findall(r"href=.([^'\">]*)", shown)), "within the page only"
    assert not re.search(r"url\(\s*['\"]?http|@import|src=", shown)
