"""A stream that runs in a process of its own, so that it can be killed; its people keep sending, and the oracle judges it."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import psutil

from stillpoint.app.load import load_app
from stillpoint.events.stream import put_events
from stillpoint.lake.app_lake import open_lake
from stillpoint.local.provision import provision
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.stores.redis.connection import connect
from tests.support.stream_world import SimulatedUsers, Watcher, judge, now, patience

RUN = """
import logging, os, signal
from datetime import timedelta
from ingestion.process_batch import BatchProcessor
from ingestion.request_queue import RequestQueue
from ingestion.supervisor import Supervisor
from stillpoint.clock import system_clock
from stillpoint.settings import Settings
logging.basicConfig(level=logging.WARNING)
supervisor = Supervisor(Settings.load(), clock=system_clock, lease_ttl=timedelta(seconds=2))
signal.signal(signal.SIGTERM, lambda *_: supervisor.stop())
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("DIES") == "before the commit":
    BatchProcessor._commit = die
if os.environ.get("DIES") == "after the commit":
    RequestQueue.send = die
supervisor.run()
"""


class Stream:
    """A stream run in a process of its own, with users who keep sending."""

    def __init__(self, settings, aws, folder, seed, *, endpoint=None):
        self.settings, self.aws, self._folder = settings, aws, folder
        provision(settings)
        self.lake = open_lake(settings)
        self.projects = {Colour.GREEN: f"g_{uuid.uuid4().hex[:6]}", Colour.BLUE: f"b_{uuid.uuid4().hex[:6]}"}
        views = tuple(view.name for view in load_app(settings.app).views)
        write_control(
            self.lake.objects, tuple(Target(colour=c, project=p, views=views) for c, p in self.projects.items())
        )
        self.users, self.sent = SimulatedUsers(25, seed), 0
        sqs = aws.client("sqs")
        url = sqs.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]
        self.watcher = Watcher(sqs, url, connect(settings.connection("green")), self.projects.values())
        self._environment = self._variables(endpoint or settings.aws_endpoint_url)
        self.process = None

    def _variables(self, endpoint):
        values = {f"STILLPOINT_{name.upper()}": str(value) for name, value in self.settings if value is not None}
        for name in ("redis_green", "redis_blue", "redis_serving", "redis_state", "redis_sandbox", "erasure_key"):
            values[f"STILLPOINT_{name.upper()}"] = getattr(self.settings, name).get_secret_value()
        return os.environ | values | {"STILLPOINT_AWS_ENDPOINT_URL": endpoint}

    def start(self, *, partitions=2, dies=""):
        """Start a run; one that `dies` ends itself as by kill -9 at its first micro-batch, before or after the commit."""
        more = {"STILLPOINT_SHUFFLE_PARTITIONS": str(partitions), "DIES": dies}
        with (self._folder / "stream.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN], env=self._environment | more, stdout=log, stderr=log
            )

    def start_when_free(self, **how):
        """Start, and again while the lease of a killed run has not expired, until it commits."""
        before = self.commits()
        began = time.monotonic()
        while time.monotonic() - began < patience():
            self.start(**how)
            while self.process.poll() is None and time.monotonic() - began < patience():
                self.send(3)
                time.sleep(0.1)
                if self.commits() > before:
                    return
        raise AssertionError(f"no run commits; see {self._folder}/stream.log:\n{self.log()[-3000:]}")

    def start_and_die(self, dies, *, partitions):
        """Start, and again while the lease is held, a run that ends itself at its first micro-batch."""
        began = time.monotonic()
        while time.monotonic() - began < patience():
            self.start(partitions=partitions, dies=dies)
            if self.ended() == -signal.SIGKILL:
                return
        raise AssertionError(f"no run came to its end {dies}:\n{self.log()[-3000:]}")

    def ended(self):
        """Wait for the run's end and return its exit code."""
        try:
            return self.process.wait(patience())
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run does not end:\n{self.log()[-3000:]}") from None

    def commits(self):
        return sum(1 for _ in self.lake.objects.list("commits/stream-"))

    def send(self, count):
        put_events(self.aws.client("kinesis"), self.settings.event_stream, self.users.some(count, now()))
        self.sent += count

    def kill_a_worker(self):
        """End one Python worker that is alive. Workers come and go by themselves, so one may end while it is chosen."""
        began = time.monotonic()
        while time.monotonic() - began < patience():
            try:
                family = psutil.Process(self.process.pid).children(recursive=True)
                java = [one for one in family if "java" in one.name()]
                worker = [child for one in java for child in one.children(recursive=True)][-1]
                worker.kill()
            except (psutil.NoSuchProcess, IndexError):
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"no Python worker was there to kill:\n{self.log()[-3000:]}")

    def kill(self):
        """End the driver at once; its Java process and workers notice by themselves."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(family, timeout=20)

    def settle(self):
        """Wait until every record that was sent has a verdict in the lake. Fails only if nothing is judged any more."""
        best, since = -1, time.monotonic()
        while time.monotonic() - since < patience():
            counted = 0
            for commit in self.lake.commits():
                counted += sum(v for k, v in commit.properties.items() if k.startswith("verdict_"))
            if counted >= self.sent:
                return
            if counted > best:
                best, since = counted, time.monotonic()
            time.sleep(0.2)
        raise AssertionError(f"{counted} of {self.sent} records were judged:\n{self.log()[-3000:]}")

    def log(self):
        return (self._folder / "stream.log").read_text()


@contextmanager
def running(settings, aws, folder: Path, seed, **more):
    stream = Stream(settings, aws, folder, seed, **more)
    try:
        yield stream
    finally:
        if stream.process is not None and stream.process.poll() is None:
            stream.process.terminate()
            stream.process.wait(patience())
        stream.watcher.stop()


def finish(stream, records=None):
    """End the stream as an operator would, within 10 seconds of a machine of its own, and judge what it left."""
    stream.settle()
    began, crowd = time.monotonic(), max(1.0, os.getloadavg()[0] / os.cpu_count())
    stream.process.terminate()
    assert stream.process.wait(patience()) == 0
    assert time.monotonic() - began < 10 * crowd
    stream.watcher.stop()
    stream.watcher.drain()
    judge(stream.settings, stream.aws, stream.sent, stream.projects, stream.watcher, records)
