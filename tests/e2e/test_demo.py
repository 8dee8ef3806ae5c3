"""The demo keeps its promises, from an empty folder to the last line, and leaves nothing running."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from console.reading.trial import Deed, try_it
from console.reading.user import some_user_ids
from console.sources import Sources
from stillpoint.settings import Settings

ROOT = Path(__file__).parents[2]


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def environment(home: Path) -> dict[str, str]:
    redis, aws, sagemaker, mlflow, http, console = free_ports(6)
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
        "STILLPOINT_CONSOLE": "true",
        "STILLPOINT_CONSOLE_PORT": str(console),
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


def stillpoint(*arguments: str, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stillpoint", *arguments],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def roles(variables: dict[str, str]) -> dict[str, str]:
    """Return what runs for a home beside the stack, by role, with its health."""
    shown = json.loads(stillpoint("status", "--json", variables=variables).stdout)
    return {one["role"]: one["health"] for one in shown["processes"]}


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


@contextmanager
def demo(home: Path, variables: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A demo that would keep everything running, and its end whatever happens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stillpoint", "demo", "--keep"],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        stillpoint("down", variables=variables)


@pytest.mark.usefixtures("whole_stack", "java")
def test_the_demo_tells_three_stories_switches_without_a_failed_or_mixed_answer_and_what_it_keeps_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    variables = environment(home)
    done = stillpoint("demo", "--keep", variables=variables)
    told = done.stdout
    try:
        assert done.returncode == 0, told + done.stderr
        assert len(re.findall(r"recommendation\s+stored", told)) == 3
        assert re.search(r"requests \d{2,}, failed 0, mixed 0", told)
        assert re.search(r"guard on: 0 are", told)
        assert "What to try next" in told
        assert roles(variables) == {"stream": "running", "worker": "running", "serve": "running"}
        up = stillpoint("up", variables=variables)
        assert up.stdout.startswith("already up"), "what was kept on purpose is no orphan"
        address = f"http://127.0.0.1:{variables['STILLPOINT_CONSOLE_PORT']}"
        assert address in told, "the demo ends with the console's address"
        until(lambda: _answers(f"{address}/healthz"), 120)
        page = httpx.get(address, timeout=60)
        assert (page.status_code, "Now · Stillpoint" in page.text) == (200, True)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        sources = Sources(Settings.load())
        trial = try_it(sources, Deed.SEARCH, some_user_ids(sources)[0], "calm after a panic", authorization=None)
        assert [place.was for place in trial.after] != list(range(1, 11)), "a search has changed the list"
        assert any(one.before != one.after for one in trial.features)
        assert 0 < trial.accepted_ms < trial.readable_ms <= trial.stored_ms
    finally:
        down = stillpoint("down", variables=variables)
    assert {"stream", "worker", "serve", "Redis"} <= set(down.stdout.removeprefix("stopped ").strip().split(", "))
    assert of_this_home(home) == []


@pytest.mark.usefixtures("whole_stack", "java")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_ends_the_demo_with_its_stream_and_all_that_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    home = tmp_path / "home"
    variables = environment(home)
    with demo(home, variables) as process:
        until(lambda: any("Gateway" in command or "spark" in command.lower() for command in of_this_home(home)), 900)
        process.send_signal(number)
        process.wait(600)
        assert process.returncode == (143 if number == signal.SIGTERM else 130)
        assert of_this_home(home) == []


@pytest.mark.usefixtures("whole_stack", "java")
def test_what_a_killed_demo_leaves_is_shown_and_stopped_by_the_next_up(tmp_path: Path) -> None:
    home = tmp_path / "home"
    variables = environment(home)
    with demo(home, variables) as process:
        until(lambda: (home / "logs" / "demo-daily.log").exists(), 900)  # it runs, beside another
        second = stillpoint("demo", variables=variables)
        assert (second.returncode, "a demo runs in" in second.stderr) == (1, True), second.stderr
        process.kill()
        process.wait()
        before = {one.pid for one in psutil.process_iter() if _home(one) == str(home)}
        up = stillpoint("up", variables=variables)
        assert "stopped what a killed run had left behind: " in up.stdout, up.stdout + up.stderr
        after = {one.pid for one in psutil.process_iter() if _home(one) == str(home)}
        assert not before & after
        assert roles(variables) == {}
    assert of_this_home(home) == []


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("STILLPOINT_HOME")
    except psutil.Error:
        return None


@pytest.mark.usefixtures("programs")
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
