"""A running service shows what the catalogue offers, and follows a withdrawal within seconds, without a release."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from inference.predictions.stored_recommendations import Recommendations
from stillpoint import catalogue, cli
from stillpoint.lake.commits import Commit
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Item, Kind, StoredRecommendation
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, hand_made
from tests.support.service_process import ServiceProcess, environment
from tests.support.wellness import FEATURES

pytestmark = pytest.mark.usefixtures("programs")

NEXT_MONTH, ENDED, WITHDRAWN = "c0000", "c0006", "c0018"


@pytest.fixture
def made(tmp_path: Path, redis_server: RedisServer, unique: str) -> HandMade:
    connection = redis_server.connection_string
    lake = Lake(LocalObjects(tmp_path / "lake"), FEATURES)
    settings = Settings(
        _env_file=None,
        home=tmp_path,
        lake=lake.root,
        redis_green=connection,
        redis_blue=connection,
        redis_sandbox=connection,
        redis_state=connection,
        redis_serving=connection,
    )
    made = hand_made(lake, settings, project=unique)
    made.point()
    now = datetime.now(UTC)
    for content_id, change in (
        (NEXT_MONTH, {"published_at": now + timedelta(days=30)}),
        (ENDED, {"until": now - timedelta(days=1)}),
    ):
        row = catalogue.find(lake, content_id, now=now)
        catalogue.add(lake, [replace(row, updated_at=now, **change)], at=now)
    keep_list(made, "u1", [NEXT_MONTH, "c0002", WITHDRAWN, ENDED])
    keep_list(made, "u2", [WITHDRAWN])
    return made


def keep_list(made: HandMade, user_id: str, ids: list[str]) -> None:
    """Keep a list as a worker that knew no better would have stored it."""
    now = datetime.now(UTC)
    items = tuple(Item(content_id=one, title=one, category="sleep", score=1.0) for one in ids)
    stored = StoredRecommendation(
        recommendation_id="r",
        request_id="r",
        user_id=user_id,
        kind=Kind.TODAY,
        release="r0001",
        generation=1,
        mapping_version=1,
        event_timestamp=now,
        created_at=now,
        trigger=None,
        items=items,
    )
    Recommendations(connect(made.settings.redis_serving.get_secret_value())).put(stored)


@pytest.fixture
def service(made: HandMade) -> Iterator[ServiceProcess]:
    started = ServiceProcess(made.settings.home, environment(made.settings), "--workers", "1")
    yield started
    assert started.stop() == 0


@pytest.fixture
def command(made: HandMade, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Callable[..., dict[str, Any]]:
    for name, value in environment(made.settings).items():
        monkeypatch.setenv(name, value)

    def run(*words: str) -> dict[str, Any]:
        assert cli.run(["content", *words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def stored(service: ServiceProcess, user_id: str) -> tuple[str, list[str]]:
    body = service.http.get(f"/v1/users/{user_id}/recommendations?limit=100").json()
    found = body["recommendations"]["today"]
    return found["source"], [item["content_id"] for item in found["items"]]


def ranked(service: ServiceProcess, user_id: str) -> tuple[str, list[str]]:
    body = service.http.post("/v1/recommendations", json={"user_id": user_id, "limit": 100}).json()
    return body["source"], [item["content_id"] for item in body["items"]]


def everywhere(service: ServiceProcess) -> list[tuple[str, list[str]]]:
    """By the model, from the store, as a fallback for a stranger, and for whom nothing is stored."""
    return [
        ranked(service, "u1"),
        stored(service, "u1"),
        stored(service, "u2"),
        ranked(service, "stranger"),
        stored(service, "u3"),
    ]


def test_a_withdrawn_content_leaves_every_answer_within_seconds_and_comes_back(
    service: ServiceProcess, command: Callable[..., dict[str, Any]]
) -> None:
    answers = everywhere(service)
    assert [source for source, _ in answers] == ["model", "stored", "stored", "model", "fallback"]
    assert all(NEXT_MONTH not in ids and ENDED not in ids for _, ids in answers)
    assert answers[1][1] == ["c0002", WITHDRAWN]
    assert all(WITHDRAWN in ids for _, ids in answers)

    began = time.monotonic()
    assert command("withdraw", WITHDRAWN)["withdrawn"] is True
    while any(WITHDRAWN in ids for _, ids in everywhere(service)):
        assert time.monotonic() - began < 20
    answers = everywhere(service)
    assert answers[1] == ("stored", ["c0002"])
    assert answers[2][0] == "fallback"  # nothing of what is stored may be shown any more
    assert all(len(ids) >= 30 for _, ids in (answers[0], answers[2], answers[3]))
    assert command("show", WITHDRAWN)["offered"] is False

    command("restore", WITHDRAWN)
    while stored(service, "u2") != ("stored", [WITHDRAWN]):
        assert time.monotonic() - began < 40
    assert not any(NEXT_MONTH in ids or ENDED in ids for _, ids in everywhere(service))


def test_a_feed_that_says_nothing_of_withdrawals_does_not_undo_one(made: HandMade) -> None:
    now = datetime.now(UTC)
    catalogue.withdraw(made.lake, WITHDRAWN, at=now)
    row = catalogue.find(made.lake, WITHDRAWN, now=now)
    later = replace(row, title="By the feed", updated_at=row.updated_at + timedelta(seconds=1))
    silent = catalogue.as_table([later]).drop_columns(["withdrawn", "until"])
    file = made.lake.write("catalogue", now.date(), "feed", silent)
    made.lake.commit(Commit(writer="feed", sequence=0, at=now, files=(file,)))
    found = catalogue.find(made.lake, WITHDRAWN, now=now + timedelta(seconds=2))
    assert (found.title, found.withdrawn) == ("By the feed", True)


def test_an_unknown_content_is_refused_by_name(made: HandMade, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name, value in environment(made.settings).items():
        monkeypatch.setenv(name, value)
    for verb in ("withdraw", "restore", "show"):
        assert cli.run(["content", verb, "nosuch"]) == 2
        assert "holds 60 contents, and no 'nosuch'" in capsys.readouterr().err
