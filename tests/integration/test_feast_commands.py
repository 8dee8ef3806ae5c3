"""Feast's own commands work from the root of the repository, in a clone where nothing has run yet."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from tests.support.wellness import BIOMETRICS, FEATURES

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

# One process, as importing Feast takes seconds; each line is a command as it would be typed.
RUN = """
import sys, traceback
from click.testing import CliRunner
from feast.cli.cli import cli

for line in sys.stdin.read().splitlines():
    result = CliRunner().invoke(cli, line.split())
    print(f"$ feast {line}: {result.exit_code}")
    print(result.output, *(traceback.format_exception_only(result.exception) if result.exception else ()))
"""


@pytest.fixture
def clone(tmp_path):
    shutil.copytree(ROOT / "feature_repo", tmp_path / "feature_repo", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("feature_store.yaml", ".feastignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def feast(folder, *lines):
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=folder, input="\n".join(lines), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def point_at(clone, **replaced):
    yaml = (clone / "feature_store.yaml").read_text()
    for found, wanted in replaced.values():
        assert found in yaml
        yaml = yaml.replace(found, wanted)
    (clone / "feature_store.yaml").write_text(yaml)


def test_definitions_are_applied_and_history_materialized_with_feasts_commands_alone(clone, redis_server, monkeypatch):
    lake_root = clone / ".stillpoint" / "lake"
    monkeypatch.setenv("STILLPOINT_LAKE", str(lake_root))
    point_at(
        clone,
        redis=("127.0.0.1:6390,db=0", redis_server.connection_string),
        lake=("s3://stillpoint/lake", str(lake_root)),
        project=("project: stillpoint_sandbox", f"project: sandbox_{clone.name}"),
    )
    row = {"user_id": "u1", "event_timestamp": NOON, "created_timestamp": NOON, "steps_sum_10m": 70}
    rows = pa.table(
        {column.name: pa.array([row.get(column.name)], column.type) for column in feature_columns(BIOMETRICS)}
    )
    lake = Lake(LocalObjects(lake_root), FEATURES)
    file = lake.write(feature_dataset(BIOMETRICS), NOON.date(), "rows", rows)
    lake.commit(Commit(writer="rows", sequence=0, at=NOON, files=(file,)))
    day = timedelta(days=1)
    said = feast(
        clone,
        "plan",
        "apply",
        f"materialize {(NOON - day).isoformat()} {(NOON + day).isoformat()} --views biometrics",
        f"materialize-incremental {(NOON + 2 * day).isoformat()} --views biometrics",
        "feature-views list",
        "get-online-features -e user_id=u1 -f biometrics:steps_sum_10m",
    )
    assert [line.rpartition(": ")[2] for line in said.splitlines() if line.startswith("$ feast")] == ["0"] * 6, said
    assert "biometrics" in said
    answer = json.loads(said.partition("$ feast get-online-features")[2].partition("\n")[2])
    assert answer == {"user_id": ["u1"], "steps_sum_10m": [70]}


def test_a_command_on_a_stack_that_is_down_says_what_does_not_answer(clone):
    point_at(clone, redis=("127.0.0.1:6390", "127.0.0.1:1"), s3=("http://127.0.0.1:4590", "http://127.0.0.1:1"))
    applied, _, filled = feast(clone, "apply", "materialize-incremental 2026-03-01T00:00:00").partition("$ feast mat")
    assert "apply: 0" in applied
    assert (clone / ".stillpoint" / "stillpoint_sandbox.pb").exists()
    assert "incremental 2026-03-01T00:00:00: 1" in filled
    assert "http://127.0.0.1:1/" in filled
