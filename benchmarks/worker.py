"""Measures a queue worker: jobs a second, and the time from an event to its stored recommendation.

    python benchmarks/worker.py [--jobs N] [--processes 1,2] [--seconds N] [--rate N] [--asks N]
    python benchmarks/worker.py --jobs 0     only the path from event to stored recommendation

Queue and lake by the AWS stand-in, a real Redis, 300 contents ranked in process. First a full queue drained by worker processes,
beside a consumer that only receives and deletes: what the stand-in itself allows; `--jobs 0` leaves that out. Then the whole path
under a steady rate of events: Kinesis (held to its limits), the Spark receiver, the queue, one worker process, by stage; beside it
one process of the HTTP service, asked for predictions `--asks` times a second, and afterwards for what was stored. `--seconds 0`
leaves that out. Last, the cold import of the Lambda handler. Prints tables and one JSON line; asserts nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import _of_tests  # noqa: F401
import numpy as np
from _results import keep
from recommendations import ServiceProcess, constant
from stream import limiting_proxy, send, settings_for

from ingestion.process_batch import BatchReport
from ingestion.supervisor import Supervisor
from stillpoint.clock import system_clock
from stillpoint.events.types import EventType
from stillpoint.lake.app_lake import open_lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Kind, PredictionRequest, request_id
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.settings import Settings
from tests.support.hand_made import hand_made
from tests.support.wellness import STREAMED_VIEWS

CONTENTS = 300
WORK = """
import json, resource, signal, sys
from inference.http.tuning import hand_over_quickly, keep_what_is_loaded, one_thread_per_process
one_thread_per_process()
hand_over_quickly()
from inference.worker.entry import create_worker
from stillpoint.settings import Settings
began = []
stages = {"event to Kinesis": [], "stream computes": [], "stream commits": [], "queue": [], "worker": [], "whole": []}
def watch(report):
    for one in report.outcomes:
        asked = one.request
        moments = (asked.event_timestamp, asked.arrived_at, asked.enqueued_at, one.sent, one.began, one.stored)
        for name, start, end in zip(stages, moments, moments[1:]):
            stages[name].append((end - start).total_seconds())
        stages["whole"].append((moments[-1] - moments[0]).total_seconds())
    began.append((report.outcomes[0].began.timestamp(), report.outcomes[-1].stored.timestamp(), report.done + report.coalesced) if report.outcomes else None)
worker, close = create_worker(Settings.load(), watch)
keep_what_is_loaded()
signal.signal(signal.SIGTERM, lambda *_: worker.stop())
print("ready", flush=True)
worker.run()
close()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
json.dump({"batches": [one for one in began if one], "stages": stages, "memory_mb": memory}, sys.stdout)
"""
NULL = """
import sys, boto3
sqs = boto3.client("sqs", endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
url = sqs.get_queue_url(QueueName=sys.argv[2])["QueueUrl"]
while True:
    found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages")
    if not found: break
    sqs.delete_message_batch(QueueUrl=url, Entries=[{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(found)])
"""


def variables(settings: Settings) -> dict[str, str]:
    """Return this process's environment with all settings."""
    values = {f"STILLPOINT_{name.upper()}": str(value) for name, value in settings if value is not None}
    for name in ("redis_green", "redis_blue", "redis_serving", "redis_state", "redis_sandbox", "erasure_key"):
        values[f"STILLPOINT_{name.upper()}"] = getattr(settings, name).get_secret_value()
    return os.environ | values


class WorkerProcess:
    """A worker process; `stop` returns what it measured."""

    def __init__(self, settings: Settings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORK], env=variables(settings), stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def stop(self) -> dict[str, Any]:
        self._process.send_signal(signal.SIGTERM)
        found, _ = self._process.communicate(timeout=60)
        result: dict[str, Any] = json.loads(found)
        return result


class Queue:
    def __init__(self, settings: Settings, aws: AwsServer) -> None:
        self.sqs: Any = aws.client("sqs")
        self.url = self.sqs.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]

    def fill(self, jobs: int, users: int) -> None:
        now = system_clock()
        for start in range(0, jobs, 10):
            entries = []
            for number in range(start, min(start + 10, jobs)):
                kind, at = list(Kind)[number % 2], now + timedelta(microseconds=number)
                asked = PredictionRequest(
                    request_id=request_id(f"event{number}-{now}", kind),
                    user_id=f"u{number % users}",
                    kind=kind,
                    event_id=f"event{number}",
                    event_type=EventType.SEARCH,
                    event_timestamp=at,
                    arrived_at=at,
                    enqueued_at=at,
                )
                entries.append({"Id": str(number), "MessageBody": asked.to_bytes().decode()})
            self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)

    def wait(self, seconds: float = 600) -> None:
        end = time.monotonic() + seconds
        while self.left() and time.monotonic() < end:
            time.sleep(0.2)


def drained(settings: Settings, queue: Queue, jobs: int, processes: int, users: int) -> dict[str, Any]:
    queue.fill(jobs, users)
    workers = [WorkerProcess(settings) for _ in range(processes)]
    queue.wait()
    found = [worker.stop() for worker in workers]
    batches = [batch for one in found for batch in one["batches"]]
    taken = max(end for _, end, _ in batches) - min(start for start, _, _ in batches)
    done = sum(count for _, _, count in batches)
    memory = max(one["memory_mb"] for one in found)
    print(
        f"{processes} worker process(es): {done / taken:,.0f} jobs/s; {done} jobs in {taken:.1f} s; {memory:.0f} MB each"
    )
    return {
        "processes": processes,
        "jobs_per_second": round(done / taken),
        "jobs": done,
        "memory_mb": round(memory),
    }


def nothing_but_the_queue(settings: Settings, queue: Queue, jobs: int, users: int) -> dict[str, Any]:
    queue.fill(jobs, users)
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", NULL, settings.aws_endpoint_url or "", settings.prediction_queue], check=True)
    rate = jobs / (time.monotonic() - began)
    print(f"receive and delete alone, one process: {rate:,.0f} messages/s")
    return {"processes": 1, "messages_per_second": round(rate)}


def whole_path(settings: Settings, queue: Queue, rate: float, seconds: float, users: int, asks: int) -> dict[str, Any]:
    """Run the receiver in this process, a worker and the service in their own, while events are sent by a fourth."""
    lake = open_lake(settings)
    views = tuple(view.name for view in STREAMED_VIEWS)
    write_control(lake.objects, tuple(Target(colour=c, project=f"bench_{c}", views=views) for c in Colour))
    proxy = limiting_proxy(settings.aws_endpoint_url or "")
    assert proxy.stdout is not None
    source = settings.aws_client_arguments() | {"endpoint_url": proxy.stdout.readline().strip()}
    records: list[int] = []

    def on_batch(report: BatchReport) -> None:
        records.append(report.records)

    supervisor = Supervisor(settings, clock=system_clock, on_batch=on_batch, source_client=source)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        send(settings, 50, 4, users)
        wait_for(records, 200)
        queue.wait(60) if not records else None
        queue.sqs.purge_queue(QueueUrl=queue.url)
        worker = WorkerProcess(settings)
        service = ServiceProcess(settings.home, variables(settings), "--workers", "1")
        records.clear()
        try:
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(constant, service, asks, seconds, users, settings.home) if asks else None
                send(settings, rate, seconds, users)
                wait_for(records, int(rate * seconds))
                queue.wait(60)
                latencies = None if asked is None else asked.result()
            sources = Counter(pulled(service, f"u{user}") for user in range(min(users, 200)))
        finally:
            found = worker.stop()
            service.stop()
    finally:
        supervisor.stop()
        thread.join()
        proxy.kill()
    print(
        f"from event to stored recommendation at {rate:.0f} events/s, {len(found['stages']['whole'])} jobs (seconds):"
    )
    table = {}
    for name, taken in found["stages"].items():
        p50, p95, p99 = (float(np.quantile(taken, share)) for share in (0.5, 0.95, 0.99))
        table[name] = {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3)}
        print(f"  {name:<18} p50 {p50:6.3f}   p95 {p95:6.3f}   p99 {p99:6.3f}")
    if latencies is not None:
        print(
            f"beside it, POST /v1/recommendations at {asks}/s: p50 {latencies['p50']:.1f} ms, p99 {latencies['p99']:.1f} ms; "
            f"{latencies['statuses']}"
        )
    print(f"pulled afterwards, of {sources.total()} users: {dict(sources)}")
    return {
        "rate": rate,
        "jobs": len(found["stages"]["whole"]),
        "stages": table,
        "asks": asks,
        "service": latencies,
        "pulled": dict(sources),
    }


def pulled(service: ServiceProcess, user_id: str) -> str:
    """Return where the service has a user's recommendation from."""
    answer = service.http.get(f"/v1/users/{user_id}/recommendations?kinds=today").raise_for_status().json()
    return str(answer["recommendations"]["today"]["source"])


def wait_for(records: list[int], count: int, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while sum(records) < count and time.monotonic() < end:
        time.sleep(0.05)


def cold_import() -> dict[str, Any]:
    taken = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import inference.lambda_handler"], check=True)
        taken.append(time.monotonic() - began)
    empty = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        empty.append(time.monotonic() - began)
    found = {"median": round(float(np.median(taken)), 3), "bare_python": round(float(np.median(empty)), 3)}
    print(f"cold import of the Lambda handler: {found['median']:.2f} s; a bare Python: {found['bare_python']:.2f} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=6_000)
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--asks", type=int, default=20)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    aws, redis = AwsServer(folder / "aws"), RedisServer(folder / "redis", options={"hash-max-listpack-value": "1200"})
    settings = settings_for(folder, aws, redis)
    result: dict[str, Any] = {}
    try:
        provision(settings)
        lake = open_lake(settings)
        made = hand_made(lake, settings, project="bench_green", count=CONTENTS, users=arguments.users)
        made.point()
        queue = Queue(settings, aws)
        if arguments.jobs:
            result["queue_alone"] = nothing_but_the_queue(settings, queue, arguments.jobs, arguments.users)
            result["drained"] = [
                drained(settings, queue, arguments.jobs, int(count), arguments.users)
                for count in arguments.processes.split(",")
            ]
        if arguments.seconds:
            result["whole_path"] = whole_path(
                settings, queue, arguments.rate, arguments.seconds, arguments.users, arguments.asks
            )
        result["lambda_import_seconds"] = cold_import()
    finally:
        aws.stop()
        redis.stop()
    keep(result)


if __name__ == "__main__":
    main()
