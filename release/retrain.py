"""Retrains in one command: snapshot, train, prepare, check, switch.

Training runs by its own verbs, in another process: rooms do not import each other. Finished steps are noted in `retraining.json`, so that
the next run continues a killed one; the release book tells how far the release has got.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from release.check import check
from release.context import ReleaseContext
from release.models import routes_of
from release.prepare import NewRelease, prepare
from release.retire import retire
from release.states import occupants
from release.switch import SwitchReport, switch
from stillpoint.errors import CorruptData, GateRefused, ObjectMissing, ReleaseRefused, StillpointError
from stillpoint.messages import Kind
from stillpoint.releases.records import Route, State

JOURNAL = "retraining.json"
RESUME_WITHIN = timedelta(hours=24)

RunVerb = Callable[[Sequence[str]], dict[str, Any]]
"""Runs a verb of `stillpoint` with `--json` and returns what it reports."""


class StepFailed(StillpointError):
    """A step of a retraining ended with an error; the text quotes the end of its output."""


class Journal(BaseModel):
    """The progress of a retraining. A run that began longer ago than `RESUME_WITHIN` is not continued."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    begun: AwareDatetime
    snapshot_id: str
    sha256: str | None = None


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


def plan_retrain(context: ReleaseContext, *, store: str, resume: str | None) -> list[str]:
    """Return what `retrain` would do now, a line per step, without the steps that an interrupted run has finished.

    Raises:
        ReleaseRefused: a rollback target is younger than it is to be kept.
    """
    book = context.book
    live = book.live()
    journal = _interrupted(context)
    digest = resume or (journal.sha256 if journal else None)
    steps: list[str] = []
    if resume is None and (gone := _went_live(context, journal)) is not None:
        return [f"stillpoint release switch {gone} (finish)"]
    if digest is None:
        steps = [f"stillpoint train {journal.snapshot_id}"] if journal else []
        steps = steps or [f"stillpoint snapshot --store {_store(context, store)}", "stillpoint train"]
    elif resume is None and (ready := _prepared(context, digest)) is not None:
        return [f"stillpoint release check {ready}", f"stillpoint release switch {ready}"]
    if (old := _to_retire(context)) is not None:
        steps.append(f"stillpoint release retire {old}")
    number = max((int(intent.id[1:]) for intent in book.intents()), default=0) + 1
    colour = "green" if live is None else book.get(live.release).colour.other
    steps += [
        f"stillpoint release prepare (r{number:04d}, into {colour})",
        f"stillpoint release check r{number:04d}",
        f"stillpoint release switch r{number:04d}",
    ]
    return steps


def retrain(context: ReleaseContext, *, store: str, resume: str | None = None, run: RunVerb = run_verb) -> SwitchReport:
    """Train on what is known now and make the model live, if the gate is green. Returns the switch.

    Goes on with an interrupted run of the last day; `resume` names a model instead. A refusal by the gate ends a run.

    Raises:
        ReleaseRefused: a rollback target is younger than it is to be kept; raised before anything is done.
            GateRefused: the gate is red; the release stays prepared. StepFailed: a training step failed.
    """
    journal = _interrupted(context) if resume is None else None
    if (live := _went_live(context, journal)) is not None:
        return _end(context, switch(context, live, why="finish an interrupted retraining"))
    ready = _prepared(context, journal.sha256) if journal and journal.sha256 else None
    if ready is None:
        _to_retire(context)
        digest = resume or _trained(context, journal, store=store, run=run)
        if (old := _to_retire(context)) is not None:
            retire(context, old, why="older than STILLPOINT_ROLLBACK_KEEP, a retraining needs its colour")
        routes = routes_of(dict.fromkeys(Kind, digest))
        ready = prepare(context, NewRelease(routes=routes, why=f"retrained: {digest[:12]}")).id
    else:
        context.progress(f"go on with release {ready}, prepared by an interrupted retraining")
    report = check(context, ready)
    if not report.passed:
        context.lake.objects.delete(JOURNAL)
        failed = "; ".join(result.sentence() for result in report.failures())
        raise GateRefused(
            f"release {ready} is prepared and the gate is red: {failed}; the live release is undisturbed, see "
            f"{context.lake.root}/{report.html}"
        )
    return _end(context, switch(context, ready, why=f"retrained, release {ready}"))


def _end(context: ReleaseContext, done: SwitchReport) -> SwitchReport:
    context.progress("end of the retraining")
    context.lake.objects.delete(JOURNAL)
    return done


def _trained(context: ReleaseContext, journal: Journal | None, *, store: str, run: RunVerb) -> str:
    """Return the digest of this run's model, trained now or by the interrupted run; each step is noted when it is done."""
    if journal is None:
        context.progress("snapshot")
        taken = run(["snapshot", "--store", _store(context, store)])
        journal = Journal(begun=context.now(), snapshot_id=str(taken["snapshot_id"]))
        _note(context, journal)
    if journal.sha256 is not None:
        return journal.sha256
    context.progress(f"train: on {journal.snapshot_id}")
    digest = str(run(["train", journal.snapshot_id])["sha256"])
    _note(context, journal.model_copy(update={"sha256": digest}))
    context.progress(f"trained: {digest}")
    return digest


def _note(context: ReleaseContext, journal: Journal) -> None:
    context.lake.objects.put(JOURNAL, journal.model_dump_json(indent=1).encode())


def _interrupted(context: ReleaseContext) -> Journal | None:
    """Return the journal of an interrupted retraining that is recent enough to be continued, else None.

    Raises:
        CorruptData: the note cannot be read.
    """
    try:
        text = context.lake.objects.get(JOURNAL)
    except ObjectMissing:
        return None
    try:
        journal = Journal.model_validate_json(text)
    except ValidationError as error:
        raise CorruptData(
            f"{context.lake.root}/{JOURNAL} is no note of a retraining; delete it to begin anew: {error}"
        ) from None
    return None if context.now() - journal.begun > RESUME_WITHIN else journal


def _went_live(context: ReleaseContext, journal: Journal | None) -> str | None:
    """Return the live release, if an interrupted run made it live."""
    live = context.book.live()
    if live is None or journal is None or not _only_model(context.book.get(live.release).routes, journal.sha256):
        return None
    return live.release


def _prepared(context: ReleaseContext, digest: str) -> str | None:
    """Return the newest release that is prepared or checked with this model for every kind."""
    ready = [
        one.intent.id
        for one in context.book.histories()
        if _only_model(one.intent.routes, digest) and one.state in (State.PREPARED, State.CHECKED)
    ]
    return ready[-1] if ready else None


def _only_model(routes: Mapping[Kind, Route], digest: str | None) -> bool:
    return {route.sha256 for route in routes.values()} == {digest}


def _store(context: ReleaseContext, store: str) -> str:
    return "sandbox" if store == "live" and context.book.live() is None else store


def _to_retire(context: ReleaseContext) -> str | None:
    """Return the rollback target whose colour is needed, None if there is none.

    Raises:
        ReleaseRefused: it must be kept longer; the text says until when.
    """
    live = context.book.live()
    if live is None:
        return None
    idle = context.book.get(live.release).colour.other
    targets = [i.id for i in occupants(context.book, idle) if context.book.state(i.id) is State.ROLLBACK_TARGET]
    if not targets:
        return None
    since = context.book.transitions(targets[-1])[-1].at
    until = since + timedelta(seconds=context.settings.rollback_keep)
    if context.now() < until:
        raise ReleaseRefused(
            f"release {targets[-1]} is the rollback target and holds {idle} until {until:%Y-%m-%d %H:%M} UTC "
            f"(STILLPOINT_ROLLBACK_KEEP); wait, or give it up with `stillpoint release retire {targets[-1]}`"
        )
    return targets[-1]
