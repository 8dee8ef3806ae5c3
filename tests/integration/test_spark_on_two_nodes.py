"""Work is the same on two Spark workers of their own processes, which get our code and the app from the driver."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python as a worker has it: third-party packages, and neither this repository nor its folder."""
    program = tmp_path / "python"
    packages = sysconfig.get_path("purelib")
    program.write_text(
        f'#!/bin/sh\ncd / 2>/dev/null; cd "$OLDPWD"\nPYTHONPATH="$PYTHONPATH:{packages}" exec {sys.executable} -S "$@"\n'
    )
    program.chmod(0o755)
    return program


def test_the_python_of_the_workers_knows_none_of_our_packages(bare_python: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print(*(u.find_spec(n) is not None for n in ('pyarrow', 'stillpoint', 'ingestion', 'feature_repo')))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert done.stdout.split() == ["True", "False", "False", "False"]


def test_backfill_and_join_on_two_workers_equal_those_of_one_machine(
    java: Path, bare_python: Path, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": "",
        "PYSPARK_PYTHON": str(bare_python),
        "STILLPOINT_HOME": str(tmp_path / "home"),
        "STILLPOINT_APP": str(ROOT / "feature_repo"),
        "STILLPOINT_SPARK_DRIVER_HOST": "127.0.0.1",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    program = [sys.executable, str(ROOT / "tests/support/two_nodes.py"), str(tmp_path)]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["processes"] >= 2
    assert all(".zip" in origin for origin in found["origins"]), "our package comes from what was sent"
    assert found["backfill_equal"]
    assert found["backfill_rows"] > 20
    assert found["join_equal"]
    assert found["join_rows"] == 60
    assert found["without_app"].startswith("a Spark executor cannot load the app nowhere/app on ")
    assert "there is no such folder" in found["without_app"]
