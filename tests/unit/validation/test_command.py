"""`stillpoint validate` passes a clean simulated lake and turns red on a planted fault."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingestion.backfill import backfill
from simulation.history import write_history
from simulation.scenario import Scenario
from stillpoint.cli import run
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import ALL_DATES, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from tests.support.wellness import APP, BIOMETRICS, FEATURES

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake of two simulated days with the streamed views' rows, which the settings point at."""
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    write_history(lake, Scenario(start=date(2026, 2, 20), days=2, users=60))
    backfill(lake, ALL_DATES, at=NOON, app=APP)
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path / "home"))
    return lake


def test_clean_events_are_green(simulated: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "events", "--json"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["passed"]
    assert outcome["rows"] > 500


def test_a_view_without_rows_and_a_planted_pulse_are_red(simulated: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    row = {field.name: [None] for field in feature_columns(BIOMETRICS)}
    row |= {"user_id": ["u1"], "event_timestamp": [NOON], "created_timestamp": [NOON], "heart_rate_mean_10m": [400.0]}
    file = simulated.write(feature_dataset(BIOMETRICS), NOON.date(), "planted", pa.table(row))
    simulated.commit(Commit(writer="planted", sequence=0, at=NOON, files=(file,)))
    assert run(["validate", "lake", "--json"]) == 1
    outcomes = {outcome["subject"]: outcome for outcome in json.loads(capsys.readouterr().out)}
    red = [finding for finding in outcomes["features/biometrics"]["findings"] if not finding["passed"]]
    assert [finding["column"] for finding in red] == ["heart_rate_mean_10m"]
    assert outcomes["features/session_bounce_rates"]["passed"]
    assert not outcomes["features/user_profiles"]["passed"], "no daily rows were computed, and nothing is not a pass"


def test_a_damaged_file_and_one_that_is_gone_are_named_and_nothing_is_touched(
    simulated: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    torn, gone = (file.path for file in simulated.files("events")[:2])
    simulated.objects.put(torn, b"PAR1 not really")
    simulated.objects.delete(gone)
    assert run(["validate", "events"]) == 1
    told = capsys.readouterr().err
    assert f"events cannot be checked, since committed files are gone or damaged: {torn}, {gone}" in told
    assert simulated.objects.get(torn) == b"PAR1 not really"


def test_nothing_to_check_is_never_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_factory: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lake").mkdir()
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path))
    monkeypatch.setenv("STILLPOINT_REDIS_GREEN", redis_factory().connection_string)
    for command in (["events"], ["lake"], ["online", "--colour", "green"]):
        assert run(["validate", *command, "--json"]) == 1
        outcomes = json.loads(capsys.readouterr().out)
        assert outcomes
        assert not any(outcome["passed"] for outcome in outcomes)
        assert {finding["note"] for outcome in outcomes for finding in outcome["findings"]} == {"found none"}
    assert run(["validate", "parity", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False
    assert run(["validate", "snapshot", "s0123456789abcdef"]) == 1
    assert "there is no snapshot 's0123456789abcdef'; there are: none" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["erase", "export"])
def test_a_malformed_id_is_refused_before_anything_is_asked(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLPOINT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("STILLPOINT_HOME", str(tmp_path / "home"))
    assert run([verb, "u1\n"]) != 0
    assert "'u1\\n' is not a user id; expected 1 to 64 letters, digits" in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [], "not even a key of tombstones is made"
