"""Compares `POST /get-online-features` with `feast serve`, with the load generator outside of both.

Feast's published workload (25 views × 10 Int64 features of one entity): 50 features for 1, 10, 100 entities. Our service
and stock Feast's server run beside each other with as many processes, on one Redis, one project and the same bytes; each
answers while the other rests. Stock Feast is tuned: no access log, no restarts, a registry that is never read again, uvloop
and httptools. Per case the most requests per second (`wrk`, kept-alive connections; the median of rounds that alternate), then latencies from
the intended moment at one constant rate that stock Feast can bear, and the processor time that a request costs its server
there. Generators and Redis share the machine with the servers, so the ratios of the most are lower bounds. Prints a table and writes `benchmarks/results/http_features.json`. Asserts nothing on time.
"""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import _of_tests  # noqa: F401
import httpx
import psutil
import typer
from _results import keep
from online_reads import ENTITIES, fill, stores

from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.process import free_port
from stillpoint.local.redis_server import RedisServer
from stillpoint.settings import Settings
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import hand_made
from tests.support.service_process import ServiceProcess, environment

JSON = {"Content-Type": "application/json"}
PATH = "/get-online-features"
PROJECT = "bench"
FEATURES = 50
BODIES = 50
CONNECTIONS = 4
GOAL, HEIGHT = 3, 5
_WRK = """
local bodies, n = {}, 0
for line in io.lines("BODIES") do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = n % #bodies + 1
  return wrk.format("POST", "/get-online-features", nil, bodies[n])
end
"""


def world(folder: Path, server: RedisServer) -> Settings:
    """Record a live release that also holds the workload's views, fill Redis, and leave a folder for `feast serve`."""
    _, ours = stores(folder, server.port)
    plan = compile_plan(ours)
    fill(ours, connect(server.connection_string))
    connection = server.connection_string
    settings = Settings(
        _env_file=None,
        home=folder,
        lake=str(folder / "lake"),
        redis_green=connection,
        redis_blue=connection,
        redis_serving=connection,
    )
    hand_made(Lake(LocalObjects(folder / "lake"), FEATURES), settings, project=PROJECT, more_views=plan.views).point()
    feast = folder / "feast"
    feast.mkdir()
    (feast / "feature_store.yaml").write_text(
        f"project: {PROJECT}\nprovider: local\nentity_key_serialization_version: 3\n"
        f"registry: {{path: {folder / 'stock.pb'}, cache_ttl_seconds: 86400}}\n"
        f'online_store: {{type: redis, connection_string: "127.0.0.1:{server.port},db=0"}}\n'
    )
    return settings


def bodies(folder: Path, entities: int) -> Path:
    """Write request bodies for so many entities, one per line, each for other entities."""
    references = [f"view_{n // 10}:feature_{n}" for n in range(0, 250, 250 // FEATURES)]
    file = folder / f"bodies-{entities}.jsonl"
    with file.open("w") as lines:
        for number in range(BODIES):
            keys = [f"e{(number * entities + n) * 7 % ENTITIES}" for n in range(entities)]
            lines.write(json.dumps({"features": references, "entities": {"entity_id": keys}}) + "\n")
    return file


@dataclass(frozen=True, slots=True)
class ServerUnderLoad:
    """A server under load: where it answers, and the process that started its processes."""

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time that all its processes have taken so far."""
        parent = psutil.Process(self.pid)
        times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
        return float(sum(one.user + one.system for one in times))


@contextmanager
def feast_serve(folder: Path, workers: int) -> Iterator[ServerUnderLoad]:
    """Run stock Feast's server, as quick as its options make it."""
    port = free_port()
    command = [sys.executable, "-m", "feast.cli.cli", "-c", str(folder / "feast"), "serve", "-p", str(port)]
    command += ["--workers", str(workers), "--no-access-log", "--max-requests", "0", "--max-requests-jitter", "0"]
    command += ["--registry_ttl_sec", "86400", "--keep-alive-timeout", "600"]
    log = folder / "feast.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "FEAST_USAGE": "False"})
    try:
        end = time.monotonic() + 240
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"feast serve does not answer:\n{log.read_text()[-3000:]}")
            try:
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield ServerUnderLoad(port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def refuse_other_answers(ports: Sequence[int], file: Path) -> None:
    """End the benchmark unless both servers say the same; the order of columns is Feast's hash seed's."""
    body = file.read_bytes().splitlines()[0]
    said = []
    for port in ports:
        answered = httpx.post(f"http://127.0.0.1:{port}{PATH}", content=body, headers=JSON, timeout=30)
        if answered.status_code != 200:
            raise SystemExit(f"port {port} answers {answered.status_code}: {answered.text[:500]}")
        answer = answered.json()
        said.append(dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True)))
    if said[0] != said[1]:
        raise SystemExit("the two servers do not answer alike")


def constant(server: ServerUnderLoad, rate: float, seconds: float, file: Path) -> dict[str, Any]:
    """Return latencies at a constant rate, and the server's processor time per request."""
    command = [sys.executable, str(Path(__file__).with_name("_constant_rate.py")), "127.0.0.1", str(server.port)]
    command += [str(rate), str(seconds), str(CONNECTIONS), PATH, str(file)]
    before = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds * 10 + 60)
    found = dict(json.loads(done.stdout))
    return found | {"cpu_ms": 1000 * (server.cpu_seconds() - before) / found["requests"]}


def most(server: ServerUnderLoad, seconds: float, file: Path) -> dict[str, Any]:
    """Return wrk's rate with kept-alive connections, and how many answers were errors."""
    script = file.with_suffix(".lua")
    script.write_text(_WRK.replace("BODIES", str(file)))
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
    shown = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}{PATH}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", shown)
    assert rate is not None, shown
    return {"per_second": float(rate[1]), "not_2xx": int(bad[1]) if bad else 0}


def measured(folder: Path, settings: Settings, workers: int, seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Measure both servers, each of so many processes, case by case in turn."""
    found = []
    service = ServiceProcess(folder, environment(settings), "--workers", str(workers))
    try:
        with feast_serve(folder, workers) as stock:
            servers = {"stillpoint": ServerUnderLoad(service.port, service.process.pid), "stock": stock}
            for entities in (1, 10, 100):
                file = bodies(folder, entities)
                for server in servers.values():
                    constant(server, 10, 2.0, file)  # all processes have loaded and are warm
                refuse_other_answers([server.port for server in servers.values()], file)
                peaks: dict[str, list[float]] = {name: [] for name in servers}
                bad = dict.fromkeys(servers, 0)
                for _ in range(rounds):
                    for name, server in servers.items():
                        one = most(server, seconds, file)
                        peaks[name].append(one["per_second"])
                        bad[name] += one["not_2xx"]
                peak = {name: statistics.median(values) for name, values in peaks.items()}
                if not peak["stock"]:
                    raise SystemExit(f"feast serve answered nothing in {seconds:g} s; give more --seconds")
                rate = max(1.0, round(peak["stock"] * 0.5))
                at_rate = {name: constant(server, rate, seconds * rounds, file) for name, server in servers.items()}
                case = {"workers": workers, "entities": entities, "rate": rate}
                found.append(case | {"most": peak, "not_2xx": bad, "constant": at_rate})
    finally:
        service.stop()
    return found


def table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as lines."""
    lines = []
    for one in results:
        ours, stock = one["most"]["stillpoint"], one["most"]["stock"]
        lines.append(
            f"{one['workers']} processes, {FEATURES} features × {one['entities']:3} entities: {ours:7.0f} requests/s, stock "
            f"{stock:6.1f}: {ours / stock:.1f} × (goal {GOAL} ×, height {HEIGHT} ×); not 2xx: {one['not_2xx']}"
        )
        ours, stock = one["constant"]["stillpoint"], one["constant"]["stock"]
        shown = "; ".join(
            f"{label} {ours[part]:.2f} ms, stock {stock[part]:.2f}: {stock[part] / ours[part]:.1f} ×"
            for part, label in (("p50", "p50"), ("p99", "p99"), ("cpu_ms", "processor time"))
        )
        lines.append(f"    at {one['rate']:.0f}/s: {shown}; {ours['statuses']} and {stock['statuses']}")
    return "\n".join(lines)


def main(
    seconds: Annotated[float, typer.Option(min=1, max=60, help="Of a round.")] = 4.0,
    rounds: Annotated[int, typer.Option(min=1, max=9)] = 3,
    workers: Annotated[str, typer.Option(help="Numbers of processes of each server, with commas.")] = "1,2",
) -> None:
    """Run the benchmark."""
    if shutil.which("wrk") is None:
        raise SystemExit("this benchmark needs the load generator wrk; install it (apt-get install wrk) and run again")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "redis").mkdir()
        server = RedisServer(folder / "redis")
        try:
            settings = world(folder, server)
            results = [
                one for count in workers.split(",") for one in measured(folder, settings, int(count), seconds, rounds)
            ]
        finally:
            server.stop()
    print(table(results))
    document = {
        "peer": "feast serve",
        "features": FEATURES,
        "connections": CONNECTIONS,
        "seconds": seconds,
        "rounds": rounds,
        "results": results,
    }
    keep(document)


if __name__ == "__main__":
    typer.run(main)
