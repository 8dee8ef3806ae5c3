"""The rehearsal's judge finds a service that breaks one of the rules by which answers stay whole."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from starlette.requests import Request
from starlette.responses import Response

from inference.http.service import Service
from inference.live.loaded_release import LoadedRelease
from inference.live.watcher import LiveReleaseWatcher
from inference.predictions.predict import Guard
from release.context import ReleaseContext
from release.rehearsal.judge import RehearsalVerdict
from release.rehearsal.plan import Fault, plan_flips
from release.rehearsal.run import break_servers, rehearse
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.local.redis_server import RedisServer
from stillpoint.settings import Settings
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.rehearsal_world import bring_up
from tests.support.release_world import USERS, context_for
from tests.support.service_thread import service_thread
from tests.support.wellness import FEATURES

Mutate = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, redis_of_module: RedisServer) -> ReleaseContext:
    """Two releases whose models score differently, r0002 live. Each test leaves it as it found it."""
    folder, redis = tmp_path_factory.mktemp("rehearsal"), redis_of_module.connection_string
    settings = Settings(
        _env_file=None,
        home=folder / "home",
        lake=str(folder / "lake"),
        **{f"redis_{name}": redis for name in ("blue", "green", "serving", "state", "sandbox")},
    )
    context = context_for(
        settings, Lake(LocalObjects(folder / "lake"), FEATURES), load_seconds=20.0, lease_seconds=10.0
    )
    bring_up(context, salts=(0, 500))
    return context


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """Give back what a service process sets for itself: this one goes on with other tests."""
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)


def rehearsed(context: ReleaseContext, patch: pytest.MonkeyPatch, *mutants: Mutate, moves: int = 2) -> RehearsalVerdict:
    for mutate in mutants:
        mutate(patch)
    planned = plan_flips(seed=3, flips=moves, faults=[Fault.NONE], pause=(1.0, 1.5))
    with service_thread(context.settings, patch) as url:
        report, _ = rehearse(
            context, url, planned, seed=3, rate=40, breaks=break_servers(context), warm_seconds=1.5, threads=2
        )
    return report.verdict


def guard_off(patch: pytest.MonkeyPatch) -> None:
    """A model predicts from whatever rows it finds."""
    patch.setattr("inference.http.app.Guard", lambda: Guard(on=False))


def swap_in_two_steps(patch: pytest.MonkeyPatch) -> None:
    """The name of the new release is taken over half a second before its plan, models and contents."""
    follow = LiveReleaseWatcher._follow

    def in_two_steps(self: LiveReleaseWatcher) -> None:
        before = self.current
        follow(self)
        after = self.current
        if before is not None and after is not None and before.generation != after.generation:
            self.current = replace(before, release=after.release, generation=after.generation)
            time.sleep(0.5)
            self.current = after

    patch.setattr(LiveReleaseWatcher, "_follow", in_two_steps)


def cache_over_a_switch(patch: pytest.MonkeyPatch) -> None:
    """Answers are kept by user, not by user and release."""
    predict, kept = Service.predict, dict[bytes, Response]()

    async def cached(self: Service, request: Request) -> Response:
        if request.state.body not in kept:
            kept[request.state.body] = await predict(self, request)
        return kept[request.state.body]

    patch.setattr(Service, "predict", cached)


def acknowledge_before_the_swap(patch: pytest.MonkeyPatch) -> None:
    """A worker says that it has swapped, and does so for requests a second later."""
    seen: list[tuple[float, LoadedRelease]] = []
    loaded = Service._loaded

    def late(self: Service) -> LoadedRelease:
        now = time.monotonic()
        seen.append((now, loaded(self)))
        return next((release for at, release in reversed(seen) if at <= now - 1.0), seen[0][1])

    patch.setattr(Service, "_loaded", late)


@pytest.mark.usefixtures("undisturbed")
def test_the_service_as_it_is_passes(context: ReleaseContext, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = rehearsed(context, monkeypatch)
    assert verdict.passed, verdict.examples
    assert set(verdict.per_release) == {"r0001", "r0002"}


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(
    ("mutant", "count"),
    [(swap_in_two_steps, "mixed"), (cache_over_a_switch, "time_travel"), (acknowledge_before_the_swap, "time_travel")],
)
def test_a_service_that_breaks_a_rule_of_the_switch_is_found(
    mutant: Mutate, count: str, context: ReleaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = rehearsed(context, monkeypatch, mutant)
    assert getattr(verdict, count) > 0, verdict
    assert not verdict.passed


@pytest.mark.usefixtures("undisturbed")
def test_rows_of_another_mapping_are_refused_by_the_guard_and_found_without_it(
    context: ReleaseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mapping(context, 1, USERS, day=2)
    try:
        with monkeypatch.context() as patch:
            guarded = rehearsed(context, patch, moves=0)
        unguarded = rehearsed(context, monkeypatch, guard_off, moves=0)
    finally:
        write_mapping(context, 2, USERS[::-1], day=3)
    assert guarded.passed, guarded.examples
    assert guarded.fallbacks > guarded.requests / 2
    assert unguarded.wrong_user > 0, unguarded


def write_mapping(context: ReleaseContext, version: int, order: Sequence[str], *, day: int) -> None:
    """Write each user's sequence id, its place in the order, into the colour of the live release."""
    live = context.book.get("r0002")
    at = datetime(2026, 1, day, tzinfo=UTC)
    rows = [
        {
            "user_id": user,
            "event_timestamp": at,
            "created_timestamp": at,
            "sequence_id": place,
            "mapping_version": version,
        }
        for place, user in enumerate(order)
    ]
    table = pa.Table.from_pylist(rows, schema=feature_columns(USER_SEQUENCE))
    OnlineWriter(context.online(live.colour), live.project).write(ViewLayout.of(USER_SEQUENCE), table)
