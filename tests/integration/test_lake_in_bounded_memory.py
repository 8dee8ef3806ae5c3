"""Jobs over a lake keep their memory when the lake grows."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = ("compact", "daily", "consent", "erase")
SOAK_EVENTS = int(os.environ.get("STILLPOINT_SOAK_EVENTS", "2000000"))
"""How many events the long run has; 50,000,000 needs 20 GB of disk and some hours."""


def run(job: str, folder: Path, events: int, *budget: int) -> dict[str, Any]:
    words = [job, str(folder), str(events), *map(str, budget)]
    done = subprocess.run(
        [sys.executable, ROOT / "tests/support/large_lake.py", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "POLARS_MAX_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_memory_does_not_grow_with_the_lake(tmp_path: Path) -> None:
    small, large = 100_000, 800_000
    peaks = {}
    for events in (small, large):
        run("make", tmp_path / str(events), events)
        for job in JOBS:
            peaks[job, events] = run(job, tmp_path / str(events), events, 2_000_000)["peak_mb"]
    # The rows of the larger lake are 170 MB; in memory at once, with the copies that sorting makes, they are several times that.
    grown = {job: peaks[job, large] - peaks[job, small] for job in JOBS}
    assert max(grown.values()) < 150, (grown, peaks)


@pytest.mark.soak
def test_a_large_lake_is_worked_over_within_four_gigabytes(tmp_path: Path) -> None:
    """Prints what each job took; STILLPOINT_SOAK_EVENTS sets the size."""
    told = [run("make", tmp_path, SOAK_EVENTS)]
    for job in JOBS:
        told.append(run(job, tmp_path, SOAK_EVENTS))
        print(told[-1])
        assert told[-1]["peak_mb"] < 4096, told[-1]
    compacted, views, consent, erased = (one["result"] for one in told[1:])
    assert compacted["events"] == SOAK_EVENTS
    assert views["user_taste"] == told[0]["result"]["users"]
    assert consent == {"opted_in": 500, "asked": 1_000}
    assert erased["erased_rows"] > 0
