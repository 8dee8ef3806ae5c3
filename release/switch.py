"""Switches the live release, forwards or back, with no failed and no mixed answer.

The new release is announced, every worker loads it, the pointer's next generation is created and copied to where functions read it,
every worker acknowledges it. Only the pointer decides what is live; the other steps make the change quick.
"""

import time
from dataclasses import dataclass
from datetime import datetime

from release.check import refuse_differing_views
from release.context import HeldReleaseLease, ReleaseContext, exclusive
from release.gate import read_report
from release.integrity import refuse_changed
from release.states import last_report, rollback_target, settle
from release.waiting import WaitResult, name, wait_for_workers
from stillpoint.audit.log import AuditAction
from stillpoint.errors import GateRefused, ReleaseRefused
from stillpoint.releases.pointer_copy import PointerCopy
from stillpoint.releases.presence import Notification, Presence, notify
from stillpoint.releases.records import Announcement, Move, Pointer, Release, State


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchReport:
    """The result of a switch. `load_seconds` until workers had loaded; `switch_seconds` from the new generation to the last acknowledgement."""

    pointer: Pointer
    release: Release
    registry_uri: str
    load_seconds: float
    switch_seconds: float
    workers: tuple[str, ...]
    died: tuple[str, ...]
    hanging: tuple[str, ...]


def switch(
    context: ReleaseContext, release_id: str, *, why: str, force: str | None = None, without_hanging: bool = False
) -> SwitchReport:
    """Make a checked release live. If it is live already, finish what a killed switch left undone.

    The colours' shared views are compared once more, since a report may be an hour old. `force` is the reason to switch
    without a green report of recent date and without that comparison, and is kept; a release whose parts do not match
    its record is refused all the same. `without_hanging` goes on without workers that do not load it.

    Raises:
        ReleaseRefused: it is unknown, gone, changed, or its colour is live; a worker hangs. GateRefused: no green
            report, an old one, or colours that have drifted apart since. LeaseHeld: another release verb runs.
    """
    with exclusive(context, "switch") as held:
        live = settle(context)
        release = context.book.get(release_id)
        if live is not None and live.release == release_id:
            return _finish(context, live, release, load_seconds=0.0)
        _refuse_unfit(context, release, live, force)
        reason = why if force is None else f"{why} (forced: {force})"
        held.check()
        context.note(AuditAction.SWITCH, release.id, reason)
        return _move(context, held, release, live, Move.SWITCH, reason, without_hanging=without_hanging)


def roll_back(context: ReleaseContext, *, why: str) -> SwitchReport:
    """Make the rollback target live again; the release that was live becomes checked, with the same report and age.

    Hanging workers do not stop a rollback: they are named in the result.

    Raises:
        ReleaseRefused: there is nothing to roll back to, or the target no longer matches its record.
    """
    with exclusive(context, "rollback") as held:
        live = settle(context)
        target = rollback_target(context.book)
        if target is None:
            announced = context.book.announced()
            if live is not None and announced is not None and announced.generation == live.generation:
                # A rollback was killed after its generation was created.
                return _finish(context, live, context.book.get(live.release), load_seconds=0.0)
            raise ReleaseRefused(
                "there is nothing to roll back to: no release is a rollback target; `stillpoint release history` shows "
                "what was live, and `stillpoint release switch` makes a checked release live"
            )
        release = context.book.get(target)
        refuse_changed(context, release)
        held.check()
        context.note(AuditAction.ROLL_BACK, release.id, why)
        return _move(context, held, release, live, Move.ROLLBACK, why, without_hanging=True)


def _refuse_unfit(context: ReleaseContext, release: Release, live: Pointer | None, force: str | None) -> None:
    state = context.book.state(release.id)
    if state is State.ROLLBACK_TARGET:
        raise ReleaseRefused(f"release {release.id} is the rollback target; run `stillpoint release rollback`")
    if state not in (State.PREPARED, State.CHECKED):
        raise ReleaseRefused(
            f"release {release.id} is {state}; only a checked release can be switched to: prepare a new one"
        )
    if live is not None:
        present = context.book.get(live.release)
        if present.colour is release.colour and present.registry_sha256 != release.registry_sha256:
            raise ReleaseRefused(
                f"release {release.id} lies in {release.colour}, which is live with {present.id}; prepare a new release "
                "into the idle colour"
            )
    if force is None:
        refuse_unchecked(context, release.id, state, context.now())
    refuse_changed(context, release)
    if force is None and live is not None:
        context.progress("compare the colours once more")
        refuse_differing_views(context, release, context.book.get(live.release))


def refuse_unchecked(context: ReleaseContext, release_id: str, state: State, now: datetime) -> None:
    """Make sure that a recent green report allows a switch.

    Raises:
        GateRefused: there is none, it is red, or it is too old; the text says what to run.
    """
    again = f"run `stillpoint release check {release_id}`"
    key = last_report(context.book, release_id)
    if key is None:
        raise GateRefused(f"release {release_id} is unchecked; {again} first")
    report = read_report(context.lake.objects, key)
    if state is not State.CHECKED or not report.passed:
        failed = "; ".join(result.sentence() for result in report.failures())
        raise GateRefused(f"release {release_id}: the gate is red: {failed}; see {key}, and {again} again")
    age = (now - report.at).total_seconds()
    limit = context.settings.check_max_age
    if age > limit:
        raise GateRefused(
            f"release {release_id}: its report is {age / 60:.0f} min old; expected under {limit / 60:.0f} min; {again} again"
        )


def _move(
    context: ReleaseContext,
    held: HeldReleaseLease,
    release: Release,
    live: Pointer | None,
    move: Move,
    why: str,
    *,
    without_hanging: bool,
) -> SwitchReport:
    generation = 1 if live is None else live.generation + 1
    context.progress(f"announce {release.id}")
    context.book.announce(Announcement(generation=generation, release=release.id, at=context.now()))
    announced = Notification(what="announced", generation=generation, release=release.id)
    notify(context.serving, announced)
    context.progress(f"wait until workers have loaded {release.id}")
    began = time.monotonic()
    loaded = wait_for_workers(context, lambda worker: release.id in (worker.loaded, worker.release), announced)
    load_seconds = time.monotonic() - began
    if loaded.hanging and not without_hanging:
        context.book.withdraw()
        notify(context.serving, Notification(what="withdrawn", generation=generation, release=release.id))
        raise ReleaseRefused(_why_not_loaded(loaded, release, context.load_seconds))
    context.progress(f"create generation {generation}")
    held.check()
    pointer = context.book.point(release.id, after=live, at=context.now(), by=context.operator, why=why, move=move)
    return _finish(context, pointer, release, load_seconds=load_seconds, before=loaded)


def _finish(
    context: ReleaseContext,
    pointer: Pointer,
    release: Release,
    *,
    load_seconds: float,
    before: WaitResult | None = None,
) -> SwitchReport:
    began = time.monotonic()
    switched = Notification(what="switched", generation=pointer.generation, release=release.id)
    notify(context.serving, switched)
    context.progress("copy the pointer for functions")
    stale, copied = PointerCopy(context.serving, context.book, context.lake.root).renew(), time.monotonic()
    context.progress(f"wait until workers answer with {release.id}")
    swapped = wait_for_workers(context, lambda worker: (worker.generation or 0) >= pointer.generation, switched)
    switch_seconds = time.monotonic() - began
    context.sleep(max(0.0, copied + stale - time.monotonic()))
    context.progress("write the states")
    settle(context)
    context.progress("withdraw the announcement")
    context.book.withdraw()
    return SwitchReport(
        pointer=pointer,
        release=release,
        registry_uri=f"{context.lake.root}/{release.registry}",
        load_seconds=load_seconds,
        switch_seconds=switch_seconds,
        workers=tuple(name(worker) for worker in swapped.done),
        died=tuple(dict.fromkeys((*(before.died if before else ()), *swapped.died))),
        hanging=tuple(name(worker) for worker in swapped.hanging),
    )


def _why_not_loaded(waited: WaitResult, release: Release, seconds: float) -> str:
    def why(worker: Presence) -> str:
        if worker.refused is not None:
            return f"{name(worker)} refuses to load it: {worker.refused}"
        return f"{name(worker)} has not loaded it within {seconds:.0f} s: it hangs"

    reasons = "; ".join(why(worker) for worker in waited.hanging)
    return (
        f"release {release.id} was announced, and {reasons}; nothing was switched: restart that worker, or repeat with "
        "--without-hanging"
    )
