"""The release verbs work from the command line, with exit codes and JSON, and a retraining goes live from one command."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer import BadParameter

from release.cli import by_kind
from release.context import ReleaseContext
from release.retrain import StepFailed, plan_retrain, retrain, run_verb
from stillpoint.cli import run
from stillpoint.cli.arguments import routed_model
from stillpoint.errors import CorruptData, LeaseHeld, ReleaseRefused
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.process import free_port
from stillpoint.messages import Kind
from stillpoint.releases.records import State
from stillpoint.settings import Settings
from tests.support.release_world import World, context_for
from tests.support.wellness import FEATURES


@pytest.fixture
def context(tmp_path: Path, redis_factory: Any, monkeypatch: pytest.MonkeyPatch) -> ReleaseContext:
    connection = redis_factory().connection_string
    values = {f"redis_{name}": connection for name in ("green", "blue", "serving", "state", "sandbox")}
    values |= {"home": str(tmp_path / "home"), "lake": str(tmp_path / "lake")}
    values["mlflow_tracking_uri"] = f"http://127.0.0.1:{free_port()}"
    for name, value in values.items():
        monkeypatch.setenv(f"STILLPOINT_{name.upper()}", value)
    monkeypatch.setenv("STILLPOINT_GATE_LATENCY_P99_MS", "1000")
    monkeypatch.setenv("STILLPOINT_GATE_DAILY_AGE_HOURS", "72")
    monkeypatch.chdir(tmp_path)
    return context_for(Settings(_env_file=None), Lake(LocalObjects(tmp_path / "lake"), FEATURES))


@pytest.fixture
def world(context: ReleaseContext) -> World:
    world = World(context.lake)
    world.fill()
    world.mapping(1)
    world.mapping(2)
    return world


def test_a_release_goes_live_from_the_command_line(
    context: ReleaseContext, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def json_of(*arguments: str) -> Any:
        capsys.readouterr()
        assert run(["release", *arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    assert json_of("prepare", "--model", world.model(1))["id"] == "r0001"
    assert run(["release", "switch", "r0001"]) == 1
    assert "error: release r0001 is unchecked; run `stillpoint release check r0001` first" in capsys.readouterr().err
    assert json_of("check", "r0001")["passed"]
    assert run(["release", "switch", "r0001", "--why", "first", "--json"]) == 0
    switched = capsys.readouterr()
    assert json.loads(switched.out)["pointer"]["generation"] == 1
    assert "warning: the release is as it should be, but MLflow at http://127.0.0.1:" in switched.err
    seen = json_of("status")
    assert (seen["live"], seen["generation"]) == ("r0001", 1)
    assert seen["colours"][0]["entities"] == {"user_id": 30, "content_id": 12}
    assert seen["colours"][0]["bytes_per_user"] > 100
    assert [event["what"] for event in json_of("history")][-1] == "generation 1 (switch)"
    assert run(["release", "status"]) == 0
    assert "green (live)" in capsys.readouterr().out
    assert run(["release", "rollback"]) == 1
    assert "there is nothing to roll back to" in capsys.readouterr().err
    assert run(["release", "retire", "r0001"]) == 1
    assert "release r0001 is live" in capsys.readouterr().err


def test_models_are_named_for_all_kinds_or_for_one() -> None:
    one, other = "a" * 64, "b" * 64
    assert by_kind([routed_model(one)]) == dict.fromkeys(Kind, one)
    assert by_kind([routed_model(f"sleep={other}"), routed_model(one)])[Kind.SLEEP] == other
    assert by_kind([routed_model(f"models/{one}.tar.gz")])[Kind.TODAY] == one
    with pytest.raises(BadParameter, match="expected a sha256 of 64 hexadecimal digits"):
        routed_model("latest")
    with pytest.raises(BadParameter, match="there is no kind 'tomorrow'; there are today, sleep, next"):
        routed_model(f"tomorrow={one}")


def test_a_retraining_goes_live_and_can_go_on_where_it_was_interrupted(context: ReleaseContext, world: World) -> None:
    asked: list[Sequence[str]] = []

    def verbs(arguments: Sequence[str]) -> dict[str, Any]:
        """Stands for `stillpoint snapshot` and `train`, which have tests of their own."""
        asked.append(arguments)
        return {"snapshot_id": "s1"} if arguments[0] == "snapshot" else {"sha256": world.model(1)}

    assert plan_retrain(context, store="live", resume=None)[2] == "stillpoint release prepare (r0001, into green)"
    assert retrain(context, store="live", run=verbs).release.id == "r0001"
    assert asked == [["snapshot", "--store", "sandbox"], ["train", "s1"]]
    digest = world.model(2)
    assert retrain(context, store="live", resume=digest, run=verbs).release.id == "r0002"
    with pytest.raises(ReleaseRefused, match=r"release r0001 is the rollback target and holds green until .* UTC"):
        retrain(context, store="live", resume=digest, run=verbs)
    eager = replace(context, settings=context.settings.model_copy(update={"rollback_keep": 0}))
    assert "stillpoint release retire r0001" in plan_retrain(eager, store="live", resume=digest)
    assert retrain(eager, store="live", resume=digest, run=verbs).release.id == "r0003"


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


def test_a_retraining_killed_at_each_step_goes_on_and_trains_once(context: ReleaseContext, world: World) -> None:
    steps: set[str] = set()
    asked: list[str] = []
    model = world.model(1)

    def progress(step: str) -> None:
        step = step.partition(":")[0]
        if step not in steps:
            steps.add(step)
            raise Killed(step)

    def verbs(arguments: Sequence[str]) -> dict[str, Any]:
        asked.append(arguments[0])
        return {"snapshot_id": "s1"} if arguments[0] == "snapshot" else {"sha256": model}

    killed = replace(context, progress=progress, lease_seconds=0.2)
    for _ in range(80):
        try:
            retrain(killed, store="live", run=verbs)
        except Killed:
            continue
        except LeaseHeld:
            time.sleep(0.25)
            continue
        break
    assert {"snapshot", "train", "trained", "write the report", "end of the retraining"} <= steps
    assert asked == ["snapshot", "train"]
    live = context.book.live()
    assert live is not None
    assert {route.sha256 for route in context.book.get(live.release).routes.values()} == {model}
    assert [intent.id for intent in context.book.intents() if context.book.state(intent.id) is State.PREPARED] == []
    assert plan_retrain(replace(context, settings=context.settings), store="live", resume=None)[0].startswith(
        "stillpoint snapshot"
    )


def test_an_interrupted_retraining_is_planned_from_where_it_was(context: ReleaseContext, world: World) -> None:
    def verbs(arguments: Sequence[str]) -> dict[str, Any]:
        if arguments[0] == "train":
            raise StepFailed("no room")
        return {"snapshot_id": "s1"}

    with pytest.raises(StepFailed):
        retrain(context, store="live", run=verbs)
    assert plan_retrain(context, store="live", resume=None)[0] == "stillpoint train s1"
    later = replace(context, clock=lambda: context.now() + timedelta(hours=25))
    assert plan_retrain(later, store="live", resume=None)[0] == "stillpoint snapshot --store sandbox"
    context.lake.objects.put("retraining.json", b"{")
    with pytest.raises(CorruptData, match=r"retraining\.json is no note of a retraining; delete it"):
        plan_retrain(context, store="live", resume=None)


def test_a_training_step_that_fails_is_quoted(context: ReleaseContext) -> None:
    with pytest.raises(StepFailed, match=r"`stillpoint train no-such-snapshot` ended with code \d: error: .*"):
        run_verb(["train", "no-such-snapshot"])
