"""Waits until workers have loaded or acknowledged a release, and names those that died or hang."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from release.context import ReleaseContext
from stillpoint.errors import ReleaseRefused
from stillpoint.releases.presence import Notification, Presence, WorkerKind, nudge

AGAIN_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class WaitResult:
    """The workers that did it, those that died meanwhile (heartbeat expired, or left), and those alive that did not do it in time."""

    done: tuple[Presence, ...]
    died: tuple[str, ...]
    hanging: tuple[Presence, ...]


def name(worker: Presence) -> str:
    """Return a worker's kind, name, process and address as one text."""
    return f"{worker.kind} {worker.worker} (process {worker.pid} at {worker.address})"


def wait_for_workers(
    context: ReleaseContext, done: Callable[[Presence], bool], news: Notification | None = None
) -> WaitResult:
    """Wait until `done` holds for every present worker. Lambdas freeze between invocations and are not waited for.

    Workers that appear meanwhile are waited for too; those whose heartbeat expires are not any more. The notification `news` may have
    been lost, so it is sent again while a worker has not done it.
    """
    notified_at = time.monotonic()
    seen: dict[str, Presence] = {}
    alive: list[Presence] = []

    def all_done() -> bool:
        nonlocal alive, notified_at
        if news is not None and time.monotonic() - notified_at >= AGAIN_SECONDS:
            nudge(context.serving, news)
            notified_at = time.monotonic()
        alive = [worker for worker in context.workers() if worker.kind is not WorkerKind.LAMBDA]
        seen.update({worker.worker: worker for worker in alive})
        return all(done(worker) or worker.refused is not None for worker in alive)

    context.wait_until(all_done, context.load_seconds)
    living = {worker.worker for worker in alive}
    return WaitResult(
        done=tuple(worker for worker in alive if done(worker)),
        died=tuple(name(worker) for key, worker in sorted(seen.items()) if key not in living),
        hanging=tuple(worker for worker in alive if not done(worker)),
    )


def wait_until_unused(context: ReleaseContext, release_ids: Sequence[str]) -> None:
    """Wait until no present worker answers with any of these releases, so that their features may be destroyed.

    Raises:
        ReleaseRefused: a worker still does; the text names it.
    """
    waited = wait_for_workers(context, lambda worker: worker.release not in release_ids)
    if waited.hanging:
        named = "; ".join(f"{name(worker)} still answers with {worker.release}" for worker in waited.hanging)
        raise ReleaseRefused(f"{named}; restart it, then run the same command again: nothing was destroyed")
