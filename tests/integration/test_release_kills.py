"""Every release verb can be killed at every step, run again, and completes."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from release.check import check
from release.colour import fill_marker
from release.context import ReleaseContext
from release.gate import Thresholds
from release.prepare import prepare
from release.retire import retire
from release.switch import roll_back, switch
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import State
from stillpoint.releases.write_targets import read_control
from stillpoint.settings import Settings
from stillpoint.stores.redis.deletion import project_keys
from tests.support.release_world import CONTENTS, USERS, World, context_for
from tests.support.wellness import FEATURES

RELAXED = Thresholds(latency_p99_ms=1000, digest_pause_seconds=0.05, daily_age_hours=72, latency_reads=20)
Verb = Callable[[ReleaseContext], object]


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def killed_at_a_new_step(before: set[str]) -> Callable[[str], None]:
    """Return a progress that ends the verb at the first step at which it was never killed before."""

    def progress(step: str) -> None:
        step = step.partition(":")[0]
        if step not in before:
            before.add(step)
            raise Killed(step)

    return progress


def make(tmp_path: Path, redis_factory: Any) -> ReleaseContext:
    connection = redis_factory().connection_string
    settings = Settings(
        _env_file=None,
        home=tmp_path / "home",
        lake=str(tmp_path / "lake"),
        **{f"redis_{name}": connection for name in ("green", "blue", "serving", "state", "sandbox")},
    )
    return context_for(settings, Lake(LocalObjects(tmp_path / "lake"), FEATURES), lease_seconds=0.4)


def start(context: ReleaseContext) -> World:
    world = World(context.lake)
    world.fill()
    world.mapping(1)
    world.mapping(2)
    for version in (1, 2):
        release = prepare(context, world.wanted(version))
        assert check(context, release.id, thresholds=RELAXED).passed
        switch(context, release.id, why=f"mapping {version}")
    return world


def run_killed_everywhere(context: ReleaseContext, verb: Verb) -> set[str]:
    """Run the verb again and again, killed at each of its steps once, until it completes; return the steps."""
    steps: set[str] = set()
    for _ in range(100):
        try:
            verb(replace(context, progress=killed_at_a_new_step(steps)))
        except Killed:
            assert context.book.live() is not None
            continue
        return steps
    raise AssertionError("the verb never completes")


def count(context: ReleaseContext, colour: Colour) -> int:
    return sum(1 for _ in project_keys(context.online(colour), f"stillpoint_{colour}"))


def test_every_verb_killed_before_each_of_its_steps_completes_when_run_again(
    tmp_path: Path, redis_factory: Any
) -> None:
    context = make(tmp_path, redis_factory)
    world = start(context)
    entities = count(context, Colour.BLUE)
    assert entities == len(USERS) + len(CONTENTS)

    assert len(run_killed_everywhere(context, lambda each: retire(each, "r0001", why="room"))) == 4
    assert context.book.state("r0001") is State.RETIRED
    assert count(context, Colour.GREEN) == 0
    assert [target.colour for target in read_control(context.lake.objects).targets] == [Colour.BLUE]

    wanted = world.wanted(1)
    steps = run_killed_everywhere(context, lambda each: prepare(each, wanted))
    assert {"claim r0003", "empty green", "start the stream's writes into green", "record", "mark complete"} <= steps
    assert sum(step.startswith("fill ") for step in steps) == 7
    assert [intent.id for intent in context.book.intents()] == ["r0001", "r0002", "r0003"], "no half release is left"
    assert context.book.state("r0003") is State.PREPARED
    assert count(context, Colour.GREEN) == entities
    assert fill_marker(context.online(Colour.GREEN), "stillpoint_green").fill_complete

    assert len(run_killed_everywhere(context, lambda each: check(each, "r0003", thresholds=RELAXED))) >= 8
    assert len(run_killed_everywhere(context, lambda each: switch(each, "r0003", why="forward"))) == 8
    live = context.book.live()
    assert live is not None
    assert (live.release, live.generation) == ("r0003", 3), "exactly one generation, however often it was killed"
    assert context.book.announced() is None
    assert len(run_killed_everywhere(context, lambda each: roll_back(each, why="back"))) == 7
    live = context.book.live()
    assert live is not None
    assert (live.release, live.generation) == ("r0002", 4)
    assert {name: context.book.state(name) for name in ("r0002", "r0003")} == {
        "r0002": State.LIVE,
        "r0003": State.CHECKED,
    }
    assert context.book.announced() is None


PREPARE = """
import os, signal, sys
from dataclasses import replace
from release.prepare import NewRelease, prepare
from release.models import routes_of
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.lake.objects import LocalObjects
from stillpoint.settings import Settings
from types import ModuleType
sys.modules["tests"] = tests = ModuleType("tests")  # sagemaker's package of this name would hide it
tests.__path__ = ["tests"]
from tests.support.release_world import context_for
from tests.support.wellness import FEATURES
settings = Settings.model_validate_json(sys.argv[1])
settings = settings.model_copy(update={"redis_green": settings.redis_green.__class__(sys.argv[4]),
    **{f"redis_{n}": settings.redis_green.__class__(sys.argv[4]) for n in ("blue", "serving", "state", "sandbox")}})
def progress(step):
    if step.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
context = context_for(settings, Lake(LocalObjects(settings.lake), FEATURES), lease_seconds=0.4, progress=progress)
release = prepare(context, NewRelease(routes=routes_of(dict.fromkeys(Kind, sys.argv[2])), why="killed"))
print(release.id)
"""


def test_a_fill_ended_by_sigkill_completes_when_run_again(tmp_path: Path, redis_factory: Any) -> None:
    context = make(tmp_path, redis_factory)
    world = World(context.lake)
    world.fill()
    world.mapping(1)
    digest = world.model(1)
    connection = context.settings.redis_green.get_secret_value()

    def run(until: str) -> subprocess.CompletedProcess[str]:
        arguments = [context.settings.model_dump_json(), digest, until, connection]
        return subprocess.run(
            [sys.executable, "-c", PREPARE, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )

    for step in ("fill user_profiles", "record"):
        killed = run(step)
        assert killed.returncode == -9, killed.stderr
        assert context.book.state("r0001") is State.PREPARING
        assert not fill_marker(context.online(Colour.GREEN), "stillpoint_green").fill_complete
        time.sleep(0.5)
    done = run("never")
    assert done.stdout.strip() == "r0001", done.stderr
    assert context.book.state("r0001") is State.PREPARED
    assert count(context, Colour.GREEN) == len(USERS) + len(CONTENTS)


@pytest.mark.soak
@pytest.mark.parametrize("delay", [round(0.4 * step, 1) for step in range(1, 25)])
def test_a_fill_ended_by_sigkill_at_any_moment_completes(tmp_path: Path, redis_factory: Any, delay: float) -> None:
    context = make(tmp_path, redis_factory)
    world = World(context.lake)
    world.fill()
    world.mapping(1)
    digest = world.model(1)
    arguments = [context.settings.model_dump_json(), digest, "never", context.settings.redis_green.get_secret_value()]
    process = subprocess.Popen([sys.executable, "-c", PREPARE, *arguments], cwd=Path(__file__).parents[2])
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    time.sleep(0.5)
    if context.book.state("r0001") is not State.PREPARED:
        prepare(context, world.wanted(1))
    assert check(context, context.book.releases()[-1], thresholds=RELAXED).passed
