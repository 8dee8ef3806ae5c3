"""Measures recommendations over HTTP, with Redis and the load generator beside the service on the same machine.

A made-up release of 300 contents and real Redis. For 1, 2, … processes: the latency of `POST /v1/recommendations` (features
read, 300 contents ranked in process) at a constant rate, the most of them per second, the most stored recommendations
(`GET`) per second, and the memory of a process. The peer in the same run is `GET /healthz`: the same server and framework
doing nothing. The generators are processes of their own: `wrk` for the most (left out without it), `_constant_rate.py` for
latency from the intended moment. Prints a table and writes `benchmarks/results/recommendations.json`. Asserts nothing.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import _of_tests  # noqa: F401
import psutil
import typer
from _results import keep

from inference.predictions.stored_recommendations import Recommendations
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Item, Kind, StoredRecommendation
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, hand_made
from tests.support.service_process import ServiceProcess, environment
from tests.support.wellness import FEATURES

CONTENTS = 300
_POST = """
wrk.method = "POST"
local n = 0
request = function()
  n = n + 7919
  return wrk.format("POST", "/v1/recommendations", nil, '{"user_id":"u' .. (n % USERS) .. '","kind":"today"}')
end
"""
_GET = """
local n = 0
request = function()
  n = n + 7919
  return wrk.format("GET", "/v1/users/u" .. (n % USERS) .. "/recommendations?kinds=today")
end
"""


def world(folder: Path, connection: str, users: int) -> HandMade:
    """Fill a release and store a recommendation for each user."""
    settings = Settings(
        _env_file=None,
        home=folder,
        lake=str(folder / "lake"),
        redis_green=connection,
        redis_blue=connection,
        redis_serving=connection,
    )
    made = hand_made(
        Lake(LocalObjects(folder / "lake"), FEATURES), settings, project="stillpoint_bench", count=CONTENTS, users=users
    )
    made.point()
    now = datetime.now(UTC)
    stored = Recommendations(connect(connection))
    items = tuple(Item(content_id=f"c{n:04d}", title=f"title {n}", category="sleep", score=1.0) for n in range(10))
    for user in range(users):
        stored.put(
            StoredRecommendation(
                recommendation_id="0" * 32,
                request_id="bench",
                user_id=f"u{user}",
                kind=Kind.TODAY,
                release=made.release.id,
                generation=1,
                mapping_version=1,
                event_timestamp=now,
                created_at=now,
                trigger=None,
                items=items,
            )
        )
    return made


def constant(service: ServiceProcess, rate: int, seconds: float, users: int, folder: Path) -> dict[str, Any]:
    """Return latencies at a constant rate."""
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(f'{{"user_id":"u{n * 7919 % users}","kind":"today"}}\n' for n in range(users)))
    command = [sys.executable, str(Path(__file__).with_name("_constant_rate.py")), "127.0.0.1", str(service.port)]
    command += [str(rate), str(seconds), "32", "/v1/recommendations", str(bodies)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds * 10 + 60)
    return dict(json.loads(done.stdout))


def most(
    service: ServiceProcess, script: str | None, seconds: float, users: int, folder: Path
) -> dict[str, Any] | None:
    """Return wrk's rate and latencies with 32 connections, None without wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return None
    command = [wrk, "-t1", "-c32", f"-d{max(1, round(seconds))}s", "--latency"]
    if script is not None:
        file = folder / "load.lua"
        file.write_text(f"USERS = {users}\n{script}")
        command += ["-s", str(file)]
    shown = subprocess.run([*command, f"{service.url}/healthz"], capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", shown)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", shown)
    assert rate is not None, shown
    assert tail is not None, shown
    return {
        "per_second": float(rate[1]),
        "p99_ms": float(tail[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[tail[2]],
        "not_2xx": int(bad[1]) if bad else 0,
    }


def memory(service: ServiceProcess) -> list[float]:
    """Return the megabytes that each answering process holds for itself alone (USS)."""
    parent = psutil.Process(service.process.pid)
    workers = [one for one in parent.children() if "resource_tracker" not in " ".join(one.cmdline())] or [parent]
    return [round(one.memory_full_info().uss / 1e6, 1) for one in workers]


def measured(made: HandMade, workers: int, rate: int, seconds: float, users: int) -> dict[str, Any]:
    """Measure a service of so many processes."""
    folder = made.settings.home
    service = ServiceProcess(folder, environment(made.settings), "--workers", str(workers))
    try:
        constant(service, min(rate, 50), 2.0, users, folder)  # both processes have loaded and are warm
        return {
            "workers": workers,
            "start_seconds": round(service.start_seconds, 2),
            "post_constant": {"rate": rate, **constant(service, rate, seconds, users, folder)},
            "post_most": most(service, _POST, seconds, users, folder),
            "get_most": most(service, _GET, seconds, users, folder),
            "healthz_most": most(service, None, seconds, users, folder),
            "memory_mb": memory(service),
        }
    finally:
        service.stop()


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as lines."""
    lines = []
    for one in results:
        post = one["post_constant"]
        lines.append(
            f"{one['workers']} processes: POST at {post['rate']}/s: p50 {post['p50']:.2f} ms, p99 {post['p99']:.2f} ms "
            f"(goal 10), max {post['max']:.1f} ms; {post['statuses']}; memory {one['memory_mb']} MB each"
        )
        peer = one["healthz_most"]
        for name, goal in (("post_most", 400), ("get_most", 2000)):
            if one[name] is not None:
                lines.append(
                    f"  {name}: {one[name]['per_second']:.0f}/s (goal {goal}), p99 {one[name]['p99_ms']:.1f} ms, "
                    f"not 2xx {one[name]['not_2xx']}; {one[name]['per_second'] / peer['per_second']:.2f} of GET /healthz "
                    f"({peer['per_second']:.0f}/s)"
                )
    return "\n".join(lines)


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 15.0,
    rate: Annotated[int, typer.Option(min=1, help="POST requests per second for the latency.")] = 200,
    users: Annotated[int, typer.Option(min=1)] = 2_000,
    workers: Annotated[str, typer.Option(help="Numbers of processes, with commas.")] = "1,2",
) -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "redis").mkdir()
        server = RedisServer(folder / "redis")
        try:
            made = world(folder, server.connection_string, users)
            results = [measured(made, int(count), rate, seconds, users) for count in workers.split(",")]
        finally:
            server.stop()
    print(table(results))
    document = {
        "contents": CONTENTS,
        "users": users,
        "seconds": seconds,
        "results": results,
    }
    keep(document)


if __name__ == "__main__":
    typer.run(main)
