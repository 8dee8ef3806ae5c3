"""A user disappears while requests, the stream, a worker and a fill all go on, and no request fails."""

import io
import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from datetime import timedelta

import httpx
import pyarrow.parquet as pq
import pytest

from ingestion.supervisor import Supervisor
from privacy.erasure.rows import mentions
from privacy.erasure.run import erase
from release.prepare import prepare
from release.switch import switch
from stillpoint.clock import system_clock
from stillpoint.events.stream import put_events
from stillpoint.lake.tables import Lake
from stillpoint.local.provision import provision
from stillpoint.stores.redis.connection import connect
from tests.support.release_world import USERS, World, context_for
from tests.support.service_process import ServiceProcess, environment
from tests.support.wellness import FEATURES

pytestmark = pytest.mark.usefixtures("spark", "programs")

USER = "u4711"
EVERYBODY = [*USERS, USER]


class Traffic:
    """Requests and events of everybody until told; the user's own end when the user asks to be erased."""

    def __init__(self, url, kinesis, stream):
        self._http = httpx.Client(base_url=url, timeout=10)
        self._kinesis, self._stream = kinesis, stream
        self.users = list(EVERYBODY)
        self.statuses, self.sent = Counter(), []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        turn = 0
        while not self._ended.is_set():
            users, turn = list(self.users), turn + 1
            for user in (users[turn % len(users)], users[-1]):
                self._request("POST", "/v1/recommendations", json={"user_id": user})
                self._request("GET", f"/v1/users/{user}/recommendations")
            events = [_event(user) for user in (users[turn % len(users)], users[-1])]
            put_events(self._kinesis, self._stream, events)
            self.sent += events
            time.sleep(0.1)

    def _request(self, method, path, **options):
        try:
            self.statuses[self._http.request(method, path, **options).status_code] += 1
        except httpx.TransportError as error:
            self.statuses[repr(error)] += 1

    def stop(self):
        self._ended.set()
        self._thread.join()
        self._http.close()


def _event(user):
    happened = system_clock() - timedelta(seconds=1)
    document = {"schema_version": 1, "event_id": str(uuid.uuid4()), "user_id": user, "type": "search"}
    document |= {"event_timestamp": happened.isoformat(), "platform": "ios", "query": "deep sleep"}
    return user, json.dumps(document).encode()


def traces(settings, lake, clients):
    """Return every file below the home, object of the lake, and key of Redis that names the user."""
    word, found = mentions(USER), []

    def look(place, data):
        if place.endswith(".parquet"):
            data = str(pq.read_table(io.BytesIO(data)).to_pylist()).encode()
        if word.search(data) or word.search(place.encode()):
            found.append(place)

    for path in settings.home.rglob("*"):
        if path.is_file():
            look(str(path), path.read_bytes())
    for key in lake.objects.list(""):
        look(key, lake.objects.get(key))
    for client in clients:
        keys = list(client.scan_iter(count=1_000))
        found += [repr(key) for key in keys if USER.encode() in key + (client.dump(key) or b"")]
    return found


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"after {seconds} s there was still not {what}")


@pytest.fixture
def settings(settings, redis_factory):
    """The stack's settings, with Redis servers that nobody else writes to."""
    green, blue = redis_factory().connection_string, redis_factory().connection_string
    own = {f"redis_{name}": green for name in ("green", "serving", "state", "sandbox")} | {"redis_blue": blue}
    return type(settings)(_env_file=None, **{**dict(settings), **own})


def test_an_erasure_amid_traffic_a_stream_and_a_fill_leaves_no_trace_and_fails_no_request(
    settings, s3_lake, aws, monkeypatch
):
    provision(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    context = context_for(settings, s3_lake, lease_seconds=10.0, barrier_seconds=30.0, load_seconds=20.0)
    world = World(s3_lake)
    world.fill(users=EVERYBODY)
    world.catalogue()
    for version in (1, 2):
        world.mapping(version, users=EVERYBODY)
    prepare(context, world.wanted(1))
    switch(context, "r0001", why="first", force="the gate has tests of its own")

    reports, failures, receipts, steps = [], [], [], []
    supervisor = Supervisor(settings, clock=system_clock, on_batch=reports.append)
    stream = threading.Thread(target=supervisor.run)
    stream.start()
    more = {
        "STILLPOINT_PREDICTION_QUEUE": settings.prediction_queue,
        "STILLPOINT_PREDICTION_DEAD_LETTERS": settings.prediction_dead_letters,
        "STILLPOINT_PUSH_QUEUE": settings.push_queue,
    }
    variables = environment(settings, **more)
    service = ServiceProcess(settings.home, variables, "--workers", "1")
    log = (settings.home / "worker.log").open("wb")
    command = [sys.executable, "-c", "from stillpoint.cli import main; main()", "worker"]
    worker = subprocess.Popen(command, env=variables, stdout=log, stderr=log, cwd=settings.home)
    traffic = Traffic(service.url, aws.client("kinesis"), settings.event_stream)
    green, blue = (connect(settings.connection(colour)) for colour in ("green", "blue"))
    held, swept = threading.Event(), threading.Event()

    def hold(progress):
        """Keep the rows that the fill has read, unwritten, until the erasure has swept once."""
        if not held.is_set():
            held.set()
            assert swept.wait(60)
        return 0.0

    def rest(seconds):
        """Sleep as the erasure wants to, which it does first when it has swept and lets others finish their writing."""
        if steps[-1] == "online stores and lake":
            swept.set()
        time.sleep(seconds)

    monkeypatch.setattr("release.fill.considerate", lambda live: hold)

    def fill():
        try:
            prepare(context, world.wanted(2))
        except BaseException as failure:  # noqa: BLE001 - told below
            failures.append(failure)

    filling = threading.Thread(target=fill)
    try:
        wait_for(
            lambda: list(green.scan_iter(match=f"stillpoint:rec:{USER}:*")),
            "a recommendation of the user",
            seconds=150,
        )
        filling.start()
        assert held.wait(60)
        planted = traces(settings, s3_lake, (green, blue))
        traffic.users = list(USERS)
        time.sleep(0.2)
        assert filling.is_alive()
        receipts.append(
            erase(
                settings,
                Lake(s3_lake.objects, FEATURES),
                USER,
                clock=system_clock,
                wait_seconds=60,
                progress=steps.append,
                sleep=rest,
            )
        )
        assert not filling.is_alive(), "the fill ended before old files were deleted"
        own = [event for event in traffic.sent if event[0] == USER][:20]
        put_events(aws.client("kinesis"), settings.event_stream, own)
        before = sum(report.verdicts.get("erased", 0) for report in reports)
        wait_for(
            lambda: sum(report.verdicts.get("erased", 0) for report in reports) >= before + 20, "the replay dropped"
        )
    finally:
        traffic.stop()
        worker.terminate()
        worker.wait(30)
        log.close()
        code = service.stop()
        supervisor.stop()
        stream.join(60)
        if filling.ident is not None:
            filling.join(60)
    assert (code, failures) == (0, [])
    assert len(planted) > 12, planted
    assert set(traffic.statuses) == {200}, traffic.statuses
    assert traffic.statuses[200] > 20
    (receipt,) = receipts
    assert receipt.found
    assert len(receipt.models) == 2
    named = {one.place for one in receipt.remaining}
    assert {f"Kinesis stream {settings.event_stream}", f"SQS queue {settings.prediction_queue}"} <= named
    assert traces(settings, s3_lake, (green, blue)) == []
