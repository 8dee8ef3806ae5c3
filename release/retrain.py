"""How does a new model go live from one command: snapshot, train, prepare, check, switch?

The training room is run by its own verbs, in a process of its own: rooms do not import each other.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from release.check import check
from release.models import routes_of
from release.prepare import Wanted, prepare
from release.retire import retire
from release.states import occupants
from release.switch import Switched, switch
from release.tools import Tools
from stillpoint.errors import GateRefused, ReleaseRefused, StillpointError
from stillpoint.messages import Kind
from stillpoint.releases import State

RunVerb = Callable[[Sequence[str]], dict[str, Any]]
"""Runs a verb of `stillpoint` with `--json` and returns what it reports."""


class StepFailed(StillpointError):
    """A step of a retraining ended with an error; the text holds its last words."""


def run_verb(arguments: Sequence[str]) -> dict[str, Any]:
    """Run `stillpoint ARGUMENTS --json` in a process of its own.

    Raises:
        StepFailed: it failed, or its answer is no JSON document.
    """
    command = [sys.executable, "-c", "from stillpoint.cli import main; main()", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shown = f"stillpoint {' '.join(arguments)}"
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line.strip()]
        raise StepFailed(f"`{shown}` ended with code {done.returncode}: {words[-1] if words else 'it said nothing'}")
    try:
        report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise StepFailed(f"`{shown}` did not print a JSON document; found {done.stdout[-200:]!r}") from None
    return report


def plan_retrain(tools: Tools, *, store: str, resume: str | None) -> list[str]:
    """Return what `retrain` would do now, a line per step.

    Raises:
        ReleaseRefused: a rollback target is younger than it is to be kept.
    """
    book = tools.book
    live = book.live()
    steps = []
    if resume is None:
        steps += [f"stillpoint snapshot --store {_store(tools, store)}", "stillpoint train"]
    if (old := _to_retire(tools)) is not None:
        steps.append(f"stillpoint release retire {old}")
    number = max((int(intent.id[1:]) for intent in book.intents()), default=0) + 1
    colour = "green" if live is None else book.get(live.release).colour.other
    steps += [
        f"stillpoint release prepare (r{number:04d}, into {colour})",
        f"stillpoint release check r{number:04d}",
        f"stillpoint release switch r{number:04d}",
    ]
    return steps


def retrain(tools: Tools, *, store: str, resume: str | None = None, run: RunVerb = run_verb) -> Switched:
    """Train on what is known now and make the model live, if the gate is green. Returns the switch.

    Raises:
        ReleaseRefused: a rollback target is younger than it is to be kept; said before anything is done.
            GateRefused: the gate is red; the release stays prepared. StepFailed: a training step failed.
    """
    _to_retire(tools)
    if resume is None:
        tools.progress("snapshot")
        snapshot = run(["snapshot", "--store", _store(tools, store)])
        tools.progress(f"train on {snapshot['snapshot_id']}")
        digest = str(run(["train", str(snapshot["snapshot_id"])])["sha256"])
        tools.progress(f"trained {digest}; if this is interrupted, go on with `stillpoint retrain --resume {digest}`")
    else:
        digest = resume
    if (old := _to_retire(tools)) is not None:
        retire(tools, old, why="older than STILLPOINT_ROLLBACK_KEEP, a retraining needs its colour")
    release = prepare(tools, Wanted(routes=routes_of(dict.fromkeys(Kind, digest)), why=f"retrained: {digest[:12]}"))
    report = check(tools, release.id)
    if not report.passed:
        failed = "; ".join(result.sentence() for result in report.failures())
        raise GateRefused(
            f"release {release.id} is prepared and the gate is red: {failed}; the live release is undisturbed, see "
            f"{tools.lake.root}/{report.html}"
        )
    return switch(tools, release.id, why=f"retrained: {digest[:12]}")


def _store(tools: Tools, store: str) -> str:
    return "sandbox" if store == "live" and tools.book.live() is None else store


def _to_retire(tools: Tools) -> str | None:
    """Return the rollback target whose colour is needed, None if there is none.

    Raises:
        ReleaseRefused: it is too young to be retired without being asked; the text says when it may be.
    """
    live = tools.book.live()
    if live is None:
        return None
    idle = tools.book.get(live.release).colour.other
    targets = [i.id for i in occupants(tools.book, idle) if tools.book.state(i.id) is State.ROLLBACK_TARGET]
    if not targets:
        return None
    since = tools.book.transitions(targets[-1])[-1].at
    until = since + timedelta(seconds=tools.settings.rollback_keep)
    if tools.now() < until:
        raise ReleaseRefused(
            f"release {targets[-1]} is the rollback target and holds {idle} until {until:%Y-%m-%d %H:%M} UTC "
            f"(STILLPOINT_ROLLBACK_KEEP); wait, or give it up with `stillpoint release retire {targets[-1]}`"
        )
    return targets[-1]
