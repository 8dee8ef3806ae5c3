"""Which aliases follow from the release book, and what happens when MLflow cannot be told."""

import socket
from datetime import UTC, datetime

import pytest

from release.aliases import ALIASES, tell_mlflow, wanted
from stillpoint.lake.objects import LocalObjects
from stillpoint.local.process import free_port
from stillpoint.messages import Kind
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.records import Intent, Move, Pointer, Release, Route, State

AT = datetime(2026, 10, 5, tzinfo=UTC)
ONE, OTHER, THIRD = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture
def book(objects: LocalObjects) -> ObjectReleaseBook:
    return ObjectReleaseBook(objects)


def prepared(book: ObjectReleaseBook, number: int, colour: Colour, *models: str) -> str:
    """Record a release whose kinds take the models in turn."""
    id = f"r{number:04d}"
    routes = {
        kind: Route(model_uri=f"models/{models[place % len(models)]}.tar.gz", sha256=models[place % len(models)])
        for place, kind in enumerate(Kind)
    }
    book.intend(
        Intent(
            id=id, colour=colour, mapping_version=1, routes=routes, feature_service="ranker_v1", at=AT, by="a", why="w"
        )
    )
    book.enter(id, State.PREPARING, at=AT, by="a", why="w")
    book.record(
        Release(
            registry=f"releases/{id}/registry.pb",
            id=id,
            colour=colour,
            project=f"stillpoint_{colour}",
            connection="127.0.0.1:1",
            registry_sha256="a" * 64,
            definitions_sha256="a" * 64,
            read_plan="plan",
            read_plan_sha256="a" * 64,
            feature_service="ranker_v1",
            encoder_sha256="e" * 64,
            mapping_version=1,
            routes=routes,
            snapshot_id="s",
            metrics={},
            created_at=AT,
        )
    )
    book.enter(id, State.PREPARED, at=AT, by="a", why="w")
    return id


def point(book: ObjectReleaseBook, id: str, after: Pointer | None, move: Move = Move.SWITCH) -> Pointer:
    pointer = book.point(id, after=after, at=AT, by="a", why="w", move=move)
    book.enter(id, State.LIVE, at=AT, by="a", why="w")
    return pointer


def test_aliases_name_each_colour_and_the_live_one_through_a_switch_and_back(book: ObjectReleaseBook) -> None:
    assert wanted(book) == {}
    green = prepared(book, 1, Colour.GREEN, ONE)
    assert wanted(book) == {"green": ONE}
    first = point(book, green, None)
    assert wanted(book) == {"green": ONE, "live": ONE}
    blue = prepared(book, 2, Colour.BLUE, OTHER)
    assert wanted(book) == {"green": ONE, "live": ONE, "blue": OTHER}
    book.enter(green, State.ROLLBACK_TARGET, at=AT, by="a", why="w")
    second = point(book, blue, first)
    assert wanted(book) == {"green": ONE, "live": OTHER, "blue": OTHER}
    book.enter(blue, State.PREPARED, at=AT, by="a", why="w")
    point(book, green, second, Move.ROLLBACK)
    assert wanted(book) == {"green": ONE, "live": ONE, "blue": OTHER}
    book.enter(blue, State.RETIRED, at=AT, by="a", why="w")
    assert wanted(book) == {"green": ONE, "live": ONE}


def test_a_newer_release_in_the_live_colour_does_not_take_its_alias(book: ObjectReleaseBook) -> None:
    point(book, prepared(book, 1, Colour.GREEN, ONE), None)
    prepared(book, 2, Colour.GREEN, OTHER)
    assert wanted(book)["green"] == ONE


def test_kinds_with_models_of_their_own_have_aliases_of_their_own(book: ObjectReleaseBook) -> None:
    prepared(book, 1, Colour.BLUE, ONE, OTHER, THIRD)
    named = wanted(book)
    assert named == {f"blue-{kind}": model for kind, model in zip(Kind, (ONE, OTHER, THIRD), strict=True)}
    assert set(named) <= ALIASES


def test_mlflow_that_is_away_silent_or_unfounded_is_a_warning() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        addresses = {
            f"http://127.0.0.1:{free_port()}": "Connection refused",
            f"http://127.0.0.1:{port}": "timed out",
            "sqlite:////nowhere/mlflow.db": "there is no /nowhere/mlflow.db",
        }
        for uri, reason in addresses.items():
            told = tell_mlflow(uri, {"live": ONE}, seconds=0.2)
            assert told is not None
            assert told.startswith("the release is as it should be, but MLflow at ")
            assert reason in told
