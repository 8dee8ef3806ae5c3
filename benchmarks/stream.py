"""Measures the whole receiver: events a second that it sustains, freshness of features, and what freshness costs.

    python benchmarks/stream.py [--seconds N] [--rate N] [--triggers S ...] [--backlog N]

Kinesis and SQS and S3 by the stand-in behind a proxy that enforces Kinesis's limits (`--no-limits` leaves it out), real
Redis, Spark on two cores, both colours. For each trigger interval (0: as soon as possible), freshness under the same steady
rate beside the processor seconds of driver and workers; after the first, a backlog as fast as it goes. Prints tables and one
JSON line; asserts nothing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import _of_tests  # noqa: F401
import psutil
from _results import keep

from ingestion.process_batch import BatchReport
from ingestion.supervisor import Supervisor
from stillpoint.clock import system_clock
from stillpoint.lake.app_lake import open_lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.settings import Settings
from tests.support.wellness import STREAMED_VIEWS

SEND = """
import sys, time, json, uuid, random
from datetime import datetime, timezone
import boto3
from stillpoint.events.stream import put_events
endpoint, stream, rate, seconds, users = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
client = boto3.client("kinesis", endpoint_url=endpoint, region_name="us-east-1",
    aws_access_key_id="test", aws_secret_access_key="test")
rng = random.Random(1)
kinds = ["navigation"] * 5 + ["content_start"] * 4 + ["content_exit"] * 3 + ["search"] * 2 + ["biometric"] * 6
begin, sent, total = time.monotonic(), 0, int(rate * seconds)
while sent < total:
    due = min(total, int((time.monotonic() - begin) * rate)) if seconds > 0.5 else total
    payloads = []
    while sent < due and len(payloads) < 500:
        user, kind = f"u{rng.randrange(users)}", rng.choice(kinds)
        event = {"schema_version": 1, "event_id": str(uuid.UUID(int=rng.getrandbits(128))), "user_id": user, "type": kind,
            "event_timestamp": datetime.now(timezone.utc).isoformat(), "platform": "ios"}
        if kind == "navigation": event["screen"] = "home"
        if kind == "search": event["query"] = rng.choice(["deep sleep", "preparing for big exam", "calm", "morning walk"])
        if kind.startswith("content"):
            event |= {"play_id": f"p{rng.randrange(9)}", "content_id": f"c{rng.randrange(300)}", "category": "sleep"}
        if kind == "content_exit": event["position_seconds"] = 20
        if kind == "biometric": event |= {"heart_rate_bpm": rng.randrange(60, 150), "steps": rng.randrange(90)}
        payloads.append((user, json.dumps(event).encode()))
        sent += 1
    if payloads: put_events(client, stream, payloads)
    time.sleep(0.02 if seconds > 0.5 else 0)
"""


def percentile(counts: Counter[int], share: float) -> float:
    """Return a percentile of hundredths of a second, in seconds."""
    left = share * sum(counts.values())
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value / 100
    return 0.0


def driver_and_workers() -> list[psutil.Process]:
    """Return this process, Java and the Python workers below it; neither servers nor the sender."""
    java = [one for one in psutil.Process().children() if one.name() == "java"]
    return [psutil.Process(), *java, *(worker for one in java for worker in one.children(recursive=True))]


def of_each(measure: Callable[[psutil.Process], float]) -> list[float]:
    """Measure driver and workers; a worker may end meanwhile."""
    found = []
    for one in driver_and_workers():
        with suppress(psutil.NoSuchProcess):
            found.append(measure(one))
    return found


def memory() -> float:
    """Return the gigabytes of driver and workers."""
    return sum(of_each(lambda one: one.memory_info().rss)) / 1e9


def cpu_seconds() -> float:
    """Return what driver and workers have spent so far. Workers that have ended count with their parents."""
    own = os.getpid()  # whose other children send the events
    return sum(of_each(lambda one: sum(one.cpu_times()[: 2 if one.pid == own else 4])))


class Watch:
    """Collects the reports of micro-batches."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, BatchReport]] = []

    def __call__(self, report: BatchReport) -> None:
        self.reports.append((time.monotonic(), report))

    def records(self) -> int:
        return sum(report.records for _, report in self.reports)

    def wait(self, count: int, seconds: float = 300) -> None:
        end = time.monotonic() + seconds
        while self.records() < count and time.monotonic() < end:
            time.sleep(0.05)

    def stages(self) -> dict[str, float]:
        names = {name for _, report in self.reports for name in report.seconds}
        return {
            name: sum(report.seconds.get(name, 0.0) for _, report in self.reports) / max(1, len(self.reports))
            for name in sorted(names)
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="for each trigger interval")
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument(
        "--triggers", type=float, nargs="+", default=[0, 0.5, 1, 2], help="seconds between micro-batches"
    )
    parser.add_argument("--backlog", type=int, default=60_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--no-limits", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    aws, redis = AwsServer(folder / "aws"), RedisServer(folder / "redis", options={"hash-max-listpack-value": "1200"})
    proxy = None if arguments.no_limits else limiting_proxy(aws.endpoint_url)
    settings = settings_for(folder, aws, redis)
    result: dict[str, Any] = {"limits": proxy is not None, "triggers": []}
    source = settings.aws_client_arguments()
    if proxy is not None:
        assert proxy.stdout is not None
        source["endpoint_url"] = proxy.stdout.readline().strip()
    try:
        provision(settings)
        lake = open_lake(settings)
        views = tuple(view.name for view in STREAMED_VIEWS)
        write_control(lake.objects, tuple(Target(colour=c, project=f"bench_{c}", views=views) for c in Colour))
        for trigger in arguments.triggers:
            own = settings.model_copy(update={"stream_trigger_seconds": trigger})
            with receiver(own, source) as watch:
                send(settings, 50, 4, arguments.users)
                watch.wait(200)
                result["triggers"].append(steady(watch, own, arguments.rate, arguments.seconds, arguments.users))
                if "throughput" not in result and arguments.backlog:
                    watch.reports.clear()
                    send(settings, arguments.backlog / 0.1, 0.1, arguments.users)
                    watch.wait(arguments.backlog)
                    result["throughput"] = throughput(watch, arguments.backlog)
                    result["throughput"]["memory_gb"] = round(memory(), 2)
    finally:
        aws.stop()
        redis.stop()
        if proxy is not None:
            proxy.kill()
        shutil.rmtree(folder)
    show(result["triggers"])
    keep(result)


@contextmanager
def receiver(settings: Settings, source: dict[str, str]) -> Iterator[Watch]:
    """Run the receiver in a thread until the block ends."""
    watch = Watch()
    supervisor = Supervisor(settings, clock=system_clock, on_batch=watch, source_client=source)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield watch
    finally:
        supervisor.stop()
        thread.join()


def steady(watch: Watch, settings: Settings, rate: float, seconds: float, users: int) -> dict[str, Any]:
    """Send at a steady rate and return freshness, stages and cost."""
    watch.reports.clear()
    before, began = cpu_seconds(), time.monotonic()
    send(settings, rate, seconds, users)
    watch.wait(int(rate * seconds))
    taken, spent = time.monotonic() - began, cpu_seconds() - before
    counts: Counter[int] = Counter()
    for _, report in watch.reports:
        counts.update(report.freshness)
    return {
        "trigger_seconds": settings.stream_trigger_seconds,
        "rate": rate,
        "events": watch.records(),
        **{f"p{int(share * 100)}": percentile(counts, share) for share in (0.5, 0.95, 0.99)},
        "batches": len(watch.reports),
        "cpu_seconds_per_1000_events": round(spent / max(1, watch.records()) * 1_000, 2),
        "cores_busy": round(spent / taken, 2),
        "stages": {name: round(mean, 3) for name, mean in watch.stages().items()},
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print freshness against cost, and the stages."""
    print(f"\nfreshness of features at {rows[0]['rate']:.0f} events/s against the processor time of driver and workers")
    print(" trigger     p50     p95     p99   batches   CPU s per 1,000 events   cores busy")
    for row in rows:
        trigger = f"{row['trigger_seconds']:g} s" if row["trigger_seconds"] else "at once"
        print(
            f"{trigger:>8} {row['p50']:>6.2f}s {row['p95']:>6.2f}s {row['p99']:>6.2f}s {row['batches']:>9}"
            f" {row['cpu_seconds_per_1000_events']:>24} {row['cores_busy']:>12}"
        )
    stages = list(rows[0]["stages"])
    print("mean seconds of a micro-batch by stage")
    print(" trigger" + "".join(f"{stage:>13}" for stage in stages))
    for row in rows:
        trigger = f"{row['trigger_seconds']:g} s" if row["trigger_seconds"] else "at once"
        print(f"{trigger:>8}" + "".join(f"{row['stages'].get(stage, 0):>13.3f}" for stage in stages))


def limiting_proxy(endpoint_url: str) -> "subprocess.Popen[str]":
    """Start a proxy that holds readers of Kinesis to its limits; its first line is its address."""
    program = Path(__file__).parents[1] / "tests" / "support" / "fault_proxy.py"
    command = [sys.executable, str(program), endpoint_url]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def settings_for(folder: Path, aws: AwsServer, redis: RedisServer) -> Settings:
    name = f"b{uuid.uuid4().hex[:8]}"
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=folder / "home",
        lake=f"s3://{name}/lake",
        aws_endpoint_url=aws.endpoint_url,
        **{f"redis_{part}": redis.connection_string for part in ("green", "blue", "sandbox", "serving", "state")},  # type: ignore[arg-type]
        event_stream=f"{name}-events",
        prediction_queue=f"{name}-predictions",
        prediction_dead_letters=f"{name}-dead",
        push_queue=f"{name}-pushes",
    )


def send(settings: Settings, rate: float, seconds: float, users: int) -> None:
    arguments = [settings.aws_endpoint_url or "", settings.event_stream, str(rate), str(seconds), str(users)]
    subprocess.run([sys.executable, "-c", SEND, *arguments], check=True, env=os.environ)


def throughput(watch: Watch, count: int) -> dict[str, Any]:
    full = [(at, report) for at, report in watch.reports if report.records]
    taken = full[-1][0] - full[0][0]
    rate = (sum(report.records for _, report in full) - full[0][1].records) / taken if taken else 0.0
    stages = {name: round(seconds, 3) for name, seconds in watch.stages().items()}
    print(f"backlog of {count} events: {rate:.0f} events/s in {len(full)} micro-batches")
    print(f"  mean seconds by stage: {stages}")
    return {"events_per_second": round(rate), "batches": len(full), "stages": stages}


if __name__ == "__main__":
    main()
