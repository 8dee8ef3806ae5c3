"""Does the demo keep its promises, from an empty folder to the last line, and leave nothing running?"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environment(home: Path) -> dict[str, str]:
    redis, aws, sagemaker, mlflow, http = free_ports(5)
    connections = {
        f"STILLPOINT_REDIS_{name}": f"127.0.0.1:{redis},db=0"
        for name in ("GREEN", "BLUE", "SANDBOX", "SERVING", "STATE")
    }
    return {
        **os.environ,
        **connections,
        "STILLPOINT_HOME": str(home),
        "STILLPOINT_AWS_ENDPOINT_URL": f"http://127.0.0.1:{aws}",
        "STILLPOINT_SAGEMAKER_ENDPOINT_URL": f"http://127.0.0.1:{sagemaker}",
        "STILLPOINT_MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
        "STILLPOINT_HTTP_PORT": str(http),
        "COLUMNS": "140",
    }


def of_this_home(home: Path) -> list[str]:
    """Return the processes that were started for a home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STILLPOINT_HOME") == str(home):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.stack
@pytest.mark.spark
@pytest.mark.timeout(900)
def test_the_demo_tells_three_stories_switches_without_a_failed_or_mixed_answer_and_cleans_up(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "stillpoint", "demo"],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stdout
    assert done.returncode == 0, told + done.stderr
    assert len(re.findall(r"recommendation\s+stored", told)) == 3
    assert re.search(r"requests \d{2,}, failed 0, mixed 0", told)
    assert re.search(r"guard on: 0 are", told)
    assert "What to try next" in told
    assert of_this_home(home) == []


def test_a_home_that_holds_other_data_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "aws").mkdir(parents=True)
    (home / "aws" / "precious").write_text("mine")
    done = subprocess.run(
        [sys.executable, "-m", "stillpoint", "demo"],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "holds data that the demo did not make" in done.stderr
    assert (home / "aws" / "precious").read_text() == "mine"
