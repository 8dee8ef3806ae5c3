"""Whole cycles of releases, beside a real stream and steady requests, give no gap and no wrong answer."""

import json
import statistics
import threading
import time
import uuid
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from ingestion.compact import merge
from ingestion.log_checkpoint import fold
from ingestion.supervisor import Supervisor
from release.check import check, side
from release.checks.shared_views import compare, shared
from release.gate import Thresholds
from release.prepare import prepare
from release.rehearsal.judge import judge
from release.rehearsal.load_process import LoadProcess
from release.rehearsal.plan import plan_flips
from release.rehearsal.run import break_servers, disturbed, move, what_is_right
from release.retire import retire
from release.states import rollback_target
from release.switch import roll_back, switch
from stillpoint.clock import system_clock
from stillpoint.events.stream import put_events
from stillpoint.local.provision import provision
from tests.support.release_world import USERS, World, context_for
from tests.support.service_process import ServiceProcess, environment

pytestmark = pytest.mark.usefixtures("spark", "programs")

SEARCHERS = [f"s{number}" for number in range(100, 120)]
"""Users whose features the stream changes all the time. The others' stay, so that their right rankings are known."""
THRESHOLDS = Thresholds(
    latency_p99_ms=2000,
    daily_age_hours=72,
    latency_reads=20,
    digest_pause_seconds=0.1,
    served_unexplained=1_000_000,  # rows made by hand: no events explain them
)


class Searching:
    """Sends searches into the event stream until it is stopped."""

    def __init__(self, kinesis, stream):
        self._kinesis, self._stream = kinesis, stream
        self.sent = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._ended.wait(0.25):
            events = [_search(SEARCHERS[(self.sent + place) % len(SEARCHERS)]) for place in range(5)]
            put_events(self._kinesis, self._stream, events)
            self.sent += len(events)

    def stop(self):
        self._ended.set()
        self._thread.join()


def _search(user):
    document = {"schema_version": 1, "event_id": str(uuid.uuid4()), "user_id": user, "type": "search"}
    happened = system_clock() - timedelta(seconds=1)
    document |= {"event_timestamp": happened.isoformat(), "platform": "ios", "query": "deep sleep"}
    return user, json.dumps(document).encode()


class Phases:
    """When was what going on?"""

    def __init__(self):
        self.spans = defaultdict(list)

    @contextmanager
    def __call__(self, name):
        began = time.monotonic()
        yield
        self.spans[name].append((began, time.monotonic()))

    def growth(self):
        """Return the median seconds of each phase in the first and in the last quarter of the run."""
        found = {}
        for name, spans in self.spans.items():
            took = [ended - began for began, ended in spans]
            quarter = max(1, len(took) // 4)
            found[name] = tuple(round(statistics.median(part), 2) for part in (took[:quarter], took[-quarter:]))
        return found

    def latency(self, load):
        """Return the 99th percentile in ms of the good answers that were asked for in each phase, and their count."""
        took = defaultdict(list)
        for answer in load.answers:
            at = load.began + answer.at
            for name, spans in self.spans.items():
                if answer.status == 200 and not answer.retried and any(a <= at <= b for a, b in spans):
                    took[name].append(answer.seconds * 1000)
        return {
            name: (round(statistics.quantiles(sorted(values), n=100)[98], 1), len(values))
            for name, values in took.items()
        }


@pytest.fixture
def settings(settings, redis_factory):
    """The stack's settings, with a Redis server for each colour."""
    green, blue = redis_factory().connection_string, redis_factory().connection_string
    own = {f"redis_{name}": green for name in ("green", "serving", "state", "sandbox")} | {"redis_blue": blue}
    trigger = {"stream_trigger_seconds": 3.0}  # the processors are for the requests
    return type(settings)(_env_file=None, **{**dict(settings), **own, **trigger})


def differing(context, users):
    live, other = (
        side(context, context.book.get(one)) for one in (context.book.live().release, rollback_target(context.book))
    )
    layouts = [layout for layout in shared(live, other) if layout.join_keys[0].name == "user_id"]
    return compare(live, other, layouts, users, now_us=context.now_us())


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("cycles", "flips"), [(20, 2)])
def test_cycles_of_releases_beside_a_stream_and_steady_requests(settings, s3_lake, aws, capsys, cycles, flips):
    """A cycle is: prepare, check, switch, flips with faults, roll back, switch again, retire the old release, merge files and fold commits.

    Flips are an even number, so that the rollback finds its target.
    """
    provision(settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    context = context_for(settings, s3_lake, lease_seconds=10.0, barrier_seconds=60.0, load_seconds=30.0)
    world = World(s3_lake)
    world.fill(users=[*USERS, *SEARCHERS])
    world.catalogue()
    for version in (1, 2):
        world.mapping(version)
    first = prepare(context, world.wanted(2))
    assert check(context, first.id, thresholds=THRESHOLDS).passed
    switch(context, first.id, why="first")
    made, expected = what_is_right(context, [first.id])

    reports, moves, filled = [], [], []
    phases = Phases()
    supervisor = Supervisor(settings, clock=system_clock, on_batch=reports.append)
    stream = threading.Thread(target=supervisor.run)
    with ExitStack() as stack:
        stack.callback(stream.join, 60)
        stack.callback(supervisor.stop)
        stream.start()
        service = ServiceProcess(settings.home, environment(settings), "--workers", "2", seconds=120)
        stack.callback(service.kill)
        searching = Searching(aws.client("kinesis"), settings.event_stream)
        stack.callback(searching.stop)
        breaks = break_servers(context, [service.process.pid])
        load = LoadProcess(service.url, sorted(expected[first.id]), rate=200)
        with load:
            for cycle in range(cycles):
                with phases("steady"):
                    time.sleep(1.5)
                before = context.book.live().release
                events = sum(sum(report.verdicts.values()) for report in reports)
                with phases("fill"):
                    fresh = prepare(context, world.wanted(1 + cycle % 2))
                filled.append(sum(sum(report.verdicts.values()) for report in reports) - events)
                with phases("check"):
                    report = check(context, fresh.id, thresholds=THRESHOLDS)
                assert report.passed, [result.sentence() for result in report.failures()]
                right = what_is_right(context, [fresh.id])
                made, expected = made | right[0], expected | right[1]
                with phases("switch"):
                    moves.append(switch(context, fresh.id, why="cycle"))
                for flip in plan_flips(seed=cycle, flips=flips):
                    time.sleep(flip.pause_seconds)
                    with phases("switch"):
                        breaks(flip.fault)
                        with disturbed(context, flip.fault) as hands:
                            moves.append(move(hands, (before, fresh.id)))
                with phases("switch"):
                    moves.append(roll_back(context, why="cycle"))
                    moves.append(switch(context, fresh.id, why="cycle"))
                if cycle < cycles - 1:
                    with phases("retire"):
                        retire(context, why="make room")
                        now = system_clock()
                        merge(s3_lake, since=now.date() - timedelta(days=2), at=now)
                        fold(s3_lake, before=now - timedelta(seconds=20), fewest=20)
        searching.stop()
        deadline = time.monotonic() + 120
        while sum(sum(report.verdicts.values()) for report in reports) < searching.sent:
            assert time.monotonic() < deadline, f"of {searching.sent} events not all came through"
            time.sleep(0.2)
        unlike = differing(context, [*USERS, *SEARCHERS])
        code = service.stop(seconds=120)
    verdict = judge(load.answers, made, expected)
    seconds = sorted(moved.switch_seconds for moved in moves)
    with capsys.disabled():
        print(
            f"\n{verdict.requests} requests: {verdict.failed} failed, {verdict.mixed} mixed, {verdict.wrong_user} wrong "
            f"user, {verdict.retried} asked again; {len(moves)} moves, median {seconds[len(seconds) // 2]:.3f} s, longest "
            f"{seconds[-1]:.3f} s; {searching.sent} events, {sum(filled)} of them while {cycles} fills went on; "
            f"p99 in ms and answers by phase: {phases.latency(load)}; seconds of each phase at first and at last: "
            f"{phases.growth()}"
        )
    assert verdict.passed, verdict.examples
    assert code == 0
    assert len(verdict.per_release) == cycles + 1
    assert sum(filled) > 0, "events flowed while colours were filled"
    assert not unlike, "after all fills both colours hold the same of everybody"
    assert seconds[len(seconds) * 9 // 10] < 1, seconds
