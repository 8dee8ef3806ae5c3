"""Does the stream lose or double anything when processes die, servers restart and services refuse? Judged by the oracle."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from stillpoint.events.stream import put_events
from stillpoint.features.declarations import STREAMED_VIEWS
from stillpoint.lake.objects import open_objects
from stillpoint.lake.tables import Lake
from stillpoint.local.provision import provision
from stillpoint.releases.colour import Colour
from stillpoint.releases.write_targets import Target, write_control
from stillpoint.stores.redis.connection import connect
from tests.support.fault_proxy import FaultProxy
from tests.support.stream_world import SimulatedUsers, Watcher, judge, now, patience, records_of

pytestmark = [pytest.mark.usefixtures("java"), pytest.mark.timeout(3600)]

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
        self._lake = Lake(open_objects(settings.lake, settings.aws_client_arguments()))
        self.projects = {Colour.GREEN: f"g_{uuid.uuid4().hex[:6]}", Colour.BLUE: f"b_{uuid.uuid4().hex[:6]}"}
        views = tuple(view.name for view in STREAMED_VIEWS)
        write_control(
            self._lake.objects, tuple(Target(colour=c, project=p, views=views) for c, p in self.projects.items())
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
        return sum(1 for _ in self._lake.objects.list("commits/stream-"))

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
            for commit in self._lake.commits():
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


def killed_at_random(settings, aws, folder, seed, kills):
    """Two of the kills are aimed: the first micro-batch is done three times, by 2, 3 and 1 partitions."""
    rng = random.Random(seed)
    with running(settings, aws, folder, seed) as stream:
        stream.send(60)
        stream.start_and_die("before the commit", partitions=2)
        assert stream.commits() == 0
        stream.start_and_die("after the commit", partitions=3)
        assert stream.commits() == 1
        assert stream.watcher.requests.total() == 0
        for turn in range(kills - 2):
            stream.start_when_free(partitions=1 + turn % 3)
            until = time.monotonic() + rng.uniform(0, 1.5)
            while time.monotonic() < until:
                stream.send(10)
            stream.kill()
            stream.send(20)
        stream.start_when_free()
        finish(stream)


def test_a_driver_killed_five_times_loses_and_doubles_nothing(settings, aws, tmp_path):
    killed_at_random(settings, aws, tmp_path, seed=random.randrange(10**6), kills=5)


@pytest.mark.soak
def test_a_driver_killed_thirty_times_loses_and_doubles_nothing(settings, aws, tmp_path):
    killed_at_random(settings, aws, tmp_path, seed=random.randrange(10**6), kills=30)


@pytest.mark.parametrize("seconds", [4, pytest.param(20, marks=pytest.mark.soak)])
def test_dying_workers_a_forgetful_redis_and_refusing_services_change_nothing(
    settings, aws, tmp_path, redis_factory, seconds
):
    memory = redis_factory()
    settings = settings.model_copy(update={"redis_state": type(settings.redis_state)(memory.connection_string)})
    proxy = FaultProxy(settings.aws_endpoint_url)
    with running(settings, aws, tmp_path, 11, endpoint=proxy.endpoint_url) as stream:
        stream.start_when_free()
        for _ in range(2):
            stream.send(40)
            stream.kill_a_worker()
            stream.settle()
        stream.send(60)
        memory.kill()
        memory.restart()
        stream.send(60)
        stream.settle()
        memory.kill()
        stream.send(30)
        memory.restart()
        stream.settle()
        assert "rebuilt from the lake" in stream.log()
        for service in ("s3", "sqs"):
            proxy.failing.add(service)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                stream.send(5)
                time.sleep(0.2)
            proxy.failing.clear()
            stream.settle()
        assert proxy.refused
        finish(stream)
    proxy.stop()


def test_a_split_in_mid_stream_is_followed_and_nothing_of_the_closed_shard_is_lost(settings, aws, tmp_path):
    with running(settings, aws, tmp_path, 12) as stream:
        stream.start_when_free()
        stream.send(40)
        kinesis = aws.client("kinesis")
        kinesis.split_shard(
            StreamName=settings.event_stream, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**126)
        )
        for _ in range(10):
            stream.send(20)
        stream.settle()
        assert len(kinesis.list_shards(StreamName=settings.event_stream)["Shards"]) == 4
        finish(stream, records_of(kinesis, settings.event_stream, stream.sent))
