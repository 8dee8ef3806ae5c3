"""The release protocol's model holds in every reachable state, each of its rules is needed, and the real book follows it."""

import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from release.states import settle
from stillpoint.lake.objects import LocalObjects
from stillpoint.messages import Kind
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import Announcement, Intent, Move, Route, State

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "model"))
import explore
import switch as model

SERVICE = model.START._replace(function=False)
LAMBDA = model.START._replace(service=False, process=model.Process(alive=False, listed=None))
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def explored(start: model.World, rules: model.Rules = model.WHOLE) -> explore.Explored[model.World]:
    return explore.explore(start, lambda world: model.steps(world, rules), model.broken, model.at_rest)


@pytest.mark.parametrize("start", [SERVICE, LAMBDA], ids=["service", "lambda"])
def test_every_rule_holds_in_every_state_of_two_verbs(start: model.World) -> None:
    found = explored(start._replace(verbs=2))
    assert found.fault is None, (found.fault.rule, found.fault.names)
    assert found.states > 30_000, "the model has lost steps"


@pytest.mark.soak
@pytest.mark.parametrize("start", [SERVICE, LAMBDA], ids=["service", "lambda"])
def test_every_rule_holds_in_every_state_of_three_verbs(start: model.World) -> None:
    found = explored(start)
    assert found.fault is None, (found.fault.rule, found.fault.names)
    assert found.states > 150_000, "the model has lost steps"


@pytest.mark.parametrize(
    ("left_out", "start", "rule"),
    [
        ("single_reference", SERVICE._replace(verbs=2), "an answer mixes two releases"),
        ("leases", SERVICE._replace(verbs=2), "a release goes live without its features"),
        ("leases", LAMBDA._replace(verbs=2), "a served colour is emptied"),
        ("waits", SERVICE._replace(verbs=2), "a served colour is emptied"),
        ("nonce", SERVICE._replace(verbs=2), "a verb says that it changed nothing, and it did"),
        ("marker", SERVICE._replace(kills=0, lost=0), "an answer is made from another mapping's rows"),
        ("conditional_store", LAMBDA._replace(verbs=2), "a list of an ended generation is stored"),
        ("prompt", SERVICE._replace(verbs=2), "a served colour is emptied"),
    ],
)
def test_without_a_rule_the_explorer_finds_the_harm(left_out: str, start: model.World, rule: str) -> None:
    found = explored(start, model.WHOLE._replace(**{left_out: False}))
    assert found.fault is not None
    assert found.fault.rule == rule
    world = start
    for name, after in found.fault.trace:
        assert (name, after) in list(model.steps(world, model.WHOLE._replace(**{left_out: False}))), "a trace is a run"
        world = after


STATES = {
    model.PREPARING: State.PREPARING,
    model.READY: State.CHECKED,
    model.LIVE: State.LIVE,
    model.TARGET: State.ROLLBACK_TARGET,
}


class RealBook:
    """The real release book, moved by the steps of the model that write to it."""

    def __init__(self, folder: Path) -> None:
        self.book = ObjectReleaseBook(LocalObjects(folder))
        self.seen: dict[str, object] = {}
        for release, colour in ((1, Colour.GREEN), (2, Colour.BLUE)):
            self.claim(release, colour)
            self.ready(release)
        self.point(1, None, Move.SWITCH)
        settle(SimpleNamespace(book=self.book))

    def claim(self, release: int, colour: Colour) -> None:
        route = Route(model_uri="models/a.tar.gz", sha256="0" * 64)
        intent = Intent(
            id=f"r{release:04d}", colour=colour, mapping_version=release, routes=dict.fromkeys(Kind, route),
            feature_service="ranker_v1", at=NOON, by="the model", why="replayed",
        )  # fmt: skip
        self.book.intend(intent)
        self.enter(release, State.PREPARING)

    def enter(self, release: int, state: State) -> None:
        self.book.enter(f"r{release:04d}", state, at=NOON, by="the model", why="replayed")

    def ready(self, release: int) -> None:
        self.enter(release, State.PREPARED)
        self.enter(release, State.CHECKED)

    def point(self, release: int, after: object, move: Move) -> None:
        at = NOON + timedelta(minutes=len(self.book.pointers()))
        self.book.point(f"r{release:04d}", after=after, at=at, by="the model", why="replayed", move=move)

    def do(self, step: str, before: model.World, after: model.World) -> None:
        """Do to the real book what a step of the model did, by what has changed."""
        if " runs " in step or "writes the notes" in step:
            settle(SimpleNamespace(book=self.book))
        for release in range(len(before.notes) + 1, len(after.notes) + 1):
            self.claim(release, [Colour.GREEN, Colour.BLUE][after.colours[release - 1]])
        for release, (old, new) in enumerate(zip(before.notes, after.notes, strict=False), 1):
            if old != new and new == model.GONE:
                self.enter(release, State.FAILED if old == model.PREPARING else State.RETIRED)
            elif old == model.PREPARING and new == model.READY:
                self.ready(release)
        if after.announced != before.announced and after.announced is not None:
            generation, release = after.announced
            self.book.announce(Announcement(generation=generation, release=f"r{release:04d}", at=NOON))
        elif after.announced != before.announced and "runs" not in step:
            self.book.withdraw()
        if len(after.pointer) > len(before.pointer):
            by = after.operators["AB".index(step[0])]
            self.point(after.live, self.book.live(), Move.ROLLBACK if by.verb == "rollback" else Move.SWITCH)

    def agrees(self, world: model.World) -> None:
        live = self.book.live()
        assert live is not None
        assert (live.generation, live.release) == (len(world.pointer), f"r{world.live:04d}")
        announced = self.book.announced()
        found = None if announced is None else (announced.generation, int(announced.release[1:]))
        assert found == world.announced
        for release, note in enumerate(world.notes, 1):
            state = self.book.state(f"r{release:04d}")
            if note == model.GONE:
                assert state in (State.RETIRED, State.FAILED)
            else:
                assert state is STATES[note]


@pytest.mark.parametrize("seed", range(40))
def test_the_real_book_follows_runs_of_the_model(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    real, world = RealBook(tmp_path), SERVICE
    writes = 0
    for _ in range(120):
        following = [one for one in model.steps(world) if chance.random() < 0.9 or "service" not in one[0]]
        if not following:
            break
        name, after = chance.choice(following)
        real.do(name, world, after)
        real.agrees(after)
        writes += after.pointer != world.pointer or after.notes != world.notes
        world = after
    assert writes >= 1
