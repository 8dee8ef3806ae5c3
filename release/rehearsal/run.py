"""Runs a rehearsal: load on, the pointer moved many times, faults in between."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from release.check import side
from release.context import ReleaseContext
from release.ranking import known, rank
from release.rehearsal.history import RecordedAnswer, RecordedMove, RehearsalHistory, ReleaseIdentity, Scores
from release.rehearsal.judge import RehearsalVerdict, judge
from release.rehearsal.load_process import LoadProcess
from release.rehearsal.plan import Fault, Flip
from release.states import rollback_target
from release.switch import SwitchReport, roll_back, switch
from stillpoint.errors import ReleaseRefused
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.releases.canaries import read_canaries
from stillpoint.releases.presence import WorkerKind
from stillpoint.releases.records import GONE
from stillpoint.stores.redis.client import Argument, Key, RedisClient

Break = Callable[[Fault], None]
"""Applies a fault to the servers."""


class PointerMove(BaseModel):
    """One switch or rollback: when it happened, in seconds since the load began, and how long its parts took."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: int
    release: str
    generation: int
    fault: Fault
    began: float
    ended: float
    load_seconds: float
    switch_seconds: float
    died: tuple[str, ...]
    hanging: tuple[str, ...]


class RehearsalReport(BaseModel):
    """What a rehearsal found. Latencies in milliseconds: `p50`, `p99`, `count` before, during and after switches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    seconds: float
    verdict: RehearsalVerdict
    moves: tuple[PointerMove, ...]
    latency: dict[str, dict[str, float]]


def rehearse(context: ReleaseContext, url: str, flips: Sequence[Flip], *, seed: int, rate: float, breaks: Break,
             token: str | None = None, warm_seconds: float = 2.0, threads: int = 4,
             ) -> tuple[RehearsalReport, RehearsalHistory]:  # fmt: skip
    """Move the pointer between the live release and the other one under load; return the findings and the history.

    Ends with the release live that was live at the start if the number of moves is even.

    Raises:
        ReleaseRefused: there is no second release to move to, or a move was refused.
    """
    pair = two_releases(context)
    live = context.book.live()
    assert live is not None  # `two_releases` found one
    right = what_is_right(context, pair)
    users = sorted({user for identity in right.values() for user in identity.scores})
    moves: list[PointerMove] = []
    with LoadProcess(url, users, rate=rate, token=token, threads=threads) as load:
        time.sleep(warm_seconds)
        for flip in flips:
            time.sleep(flip.pause_seconds)
            began = load.now()
            breaks(flip.fault)
            with disturbed(context, flip.fault) as hands:
                done = move(hands, pair)
            moves.append(_moved(flip, done, began, load.now()))
            context.progress(f"move {flip.number} of {len(flips)}: {done.release.id} with {flip.fault}")
        time.sleep(warm_seconds)
        seconds = load.now()
    history = RehearsalHistory(
        releases=right,
        start=(live.generation, live.release),
        moves=[_recorded(move) for move in moves],
        answers=sorted(load.answers, key=lambda answer: answer.began),
    )
    found = RehearsalReport(
        seed=seed,
        seconds=seconds,
        verdict=judge(history),
        moves=tuple(moves),
        latency=latency(history.answers, moves),
    )
    return found, history


def two_releases(context: ReleaseContext) -> tuple[str, str]:
    """Return the live release and the one that a move would make live.

    Raises:
        ReleaseRefused: there is none.
    """
    live = context.book.live()
    others = [history.intent.id for history in context.book.histories() if history.state not in GONE]
    recorded = set(context.book.releases())
    others = [one for one in others if one in recorded and (live is None or one != live.release)]
    if live is None or not others:
        raise ReleaseRefused(
            "a rehearsal moves between two releases: one live, one checked or a rollback target; prepare, check and "
            "switch another one first"
        )
    return live.release, rollback_target(context.book) or others[-1]


def move(context: ReleaseContext, pair: tuple[str, str]) -> SwitchReport:
    """Make the other one of two releases live: by a rollback where it is the rollback target, else by a switch."""
    live = context.book.live()
    other = pair[1] if live is not None and live.release == pair[0] else pair[0]
    if rollback_target(context.book) == other:
        return roll_back(context, why="rehearsal")
    return switch(context, other, why="rehearsal", force="rehearsal")


def what_is_right(context: ReleaseContext, pair: Sequence[str]) -> dict[str, ReleaseIdentity]:
    """Return each release's identity with the right scores of its canaries.

    A canary's sequence id is known from the release's own file: the right scores do not depend on what the colour says.
    """
    contents = content_ids(context.lake)
    right = {}
    for release_id in pair:
        beside = side(context, context.book.get(release_id))
        release = beside.release
        scores_of: dict[str, Scores] = {}
        for canary in read_canaries(context.lake.objects, release_id):
            scores = rank(
                beside,
                canary.user_id,
                Kind.TODAY,
                contents,
                now_us=context.now_us(),
                resolve=known(canary.sequence_id),
            )
            scores_of[canary.user_id] = dict(zip(contents, scores.tolist(), strict=True))
        right[release_id] = ReleaseIdentity(
            mapping_version=release.mapping_version,
            read_plan_sha256=release.read_plan_sha256,
            models={kind.value: route.sha256 for kind, route in release.routes.items()},
            scores=scores_of,
        )
    return right


def content_ids(lake: Lake) -> list[str]:
    """Return the ids of all items that have features."""
    found: set[str] = set()
    for view in lake.features.of(lake.features.item):
        key = view.entity.join_key
        found.update(lake.read(feature_dataset(view), columns=[key])[key].to_pylist())
    return sorted(found)


def latency(answers: Sequence[RecordedAnswer], moves: Sequence[PointerMove]) -> dict[str, dict[str, float]]:
    """Return percentiles of good answers asked before the first move, during moves, between and after them."""
    first = moves[0].began if moves else float("inf")
    last = moves[-1].ended if moves else float("inf")

    def phase(at: float) -> str:
        if at < first:
            return "before"
        if any(move.began <= at <= move.ended for move in moves):
            return "during"
        return "after" if at > last else "between"

    groups: dict[str, list[float]] = {"before": [], "during": [], "between": [], "after": []}
    for answer in answers:
        if answer.status == 200 and not answer.retried:
            groups[phase(answer.began)].append(answer.seconds * 1000)
    return {
        name: {"count": float(len(took)), "p50": _percentile(took, 0.5), "p99": _percentile(took, 0.99)}
        for name, took in groups.items()
        if took
    }


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _recorded(move: PointerMove) -> RecordedMove:
    return RecordedMove(
        release=move.release,
        generation=move.generation,
        began=move.began,
        ended=move.ended,
        hanging=move.hanging,
    )


def _moved(flip: Flip, done: SwitchReport, began: float, ended: float) -> PointerMove:
    return PointerMove(
        flip=flip.number,
        release=done.release.id,
        generation=done.pointer.generation,
        fault=flip.fault,
        began=began,
        ended=ended,
        load_seconds=done.load_seconds,
        switch_seconds=done.switch_seconds,
        died=done.died,
        hanging=done.hanging,
    )


class _SlowObjects:
    def __init__(self, objects: Any, seconds: float) -> None:
        self._objects, self._seconds = objects, seconds

    def __getattr__(self, name: str) -> Any:
        time.sleep(self._seconds)
        return getattr(self._objects, name)


class _Deaf:
    """A Redis client whose notifications are lost."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def publish(self, channel: Key, message: Argument) -> int:
        return 0


@contextmanager
def disturbed(context: ReleaseContext, fault: Fault) -> Iterator[ReleaseContext]:
    """Yield the context, with a slow release book or lost notifications where the fault says so."""
    if fault is Fault.SLOW_BOOK:
        yield replace(context, lake=Lake(_SlowObjects(context.lake.objects, 0.02), context.lake.features))
    elif fault is Fault.LOST_NEWS:
        yield replace(context, serving=_Deaf(context.serving))
    else:
        yield context


def break_servers(context: ReleaseContext, pids: Sequence[int] | None = None) -> Break:
    """Return a function that applies faults: SIGKILL of a service worker on this host, or closing all Redis connections.

    Only processes whose ids are among `pids` are killed; None kills none.
    """
    turn = 0

    def breaks(fault: Fault) -> None:
        nonlocal turn
        if fault is Fault.KILL_WORKER and pids is not None:
            known = [w.pid for w in context.workers() if w.kind is WorkerKind.SERVICE and w.pid in _family(pids)]
            if known:
                os.kill(sorted(known)[turn % len(known)], signal.SIGKILL)
                turn += 1
        if fault is Fault.CUT_CONNECTIONS:
            context.serving.client_kill_filter(_type="normal", skipme=True)

    return breaks


def _family(pids: Sequence[int]) -> set[int]:
    """Return these processes and their children."""
    import psutil

    found = set(pids)
    for pid in pids:
        if psutil.pid_exists(pid):
            found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return found
