"""The steps of an erasure, in the order in which nothing brings the user back.

1. Write a tombstone: once they have read it, the stream, workers and logs drop the user's events up to now.
2. Wait until the stream has acknowledged it; what it wrote before is in the stores by then.
3. Online: delete the features of every colour, stored recommendations, and the stream's states.
4. The lake: one commit supersedes every file with rows of the user.
5. When runs that read the lake before are over (backfill, daily, snapshot, materialize), under the leases of releases and
   compaction (a fill under way ends first): the same again for what was written in
   between, then the old files are deleted and snapshots revised, and in a versioned bucket their old versions deleted.

It can be repeated after a kill at any point.
"""

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any

from privacy.erasure.lake import LakeErasure
from privacy.erasure.online import forget_features, forget_serving, forget_state
from privacy.erasure.receipt import RECEIPTS, Receipt, RemovedRows
from privacy.erasure.remaining import remaining
from privacy.erasure.rows import checked
from stillpoint.clock import Clock, to_micros
from stillpoint.errors import LeaseHeld, ObjectMissing, StackUnavailable
from stillpoint.lake.tables import Lake
from stillpoint.leases.active_jobs import active_jobs
from stillpoint.leases.lease import Lease, renewing
from stillpoint.leases.names import watched_stream_lease
from stillpoint.releases.presence import ORDERED, nudge
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect, redis_errors
from stillpoint.tombstones import acknowledged_erasures, bury, erasure_key, mark_erased, read_tombstones

LEASES = ("release", "compact")
OWN_LEASE = "erase"
"""The lease of erasures: two at once would rewrite the same files and double the rows of all other users."""
LEASE_TTL = timedelta(seconds=30)
SETTLE_SECONDS = 5.0
"""How long workers and logs may take to finish a write that began before they read the tombstone."""


def erase(
    settings: Settings,
    lake: Lake,
    user_id: str,
    *,
    clock: Clock,
    wait_seconds: float = 900.0,
    settle_seconds: float = SETTLE_SECONDS,
    progress: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Receipt:
    """Erase one user everywhere and return the receipt, which is also kept in the lake's `reports/erasures/`.

    Raises:
        InvalidInput: the id is malformed.
        StackUnavailable: a store is down, or the stream or a fill did not finish within `wait_seconds`; run it again.
    """
    checked(user_id)
    with _leases(lake, (OWN_LEASE,), clock, wait_seconds, sleep):
        return _erase(settings, lake, user_id, clock, wait_seconds, settle_seconds, progress, sleep)


def _erase(
    settings: Settings,
    lake: Lake,
    user_id: str,
    clock: Clock,
    wait_seconds: float,
    settle_seconds: float,
    progress: Callable[[str], None],
    sleep: Callable[[float], None],
) -> Receipt:
    key = erasure_key(settings)
    serving = connect(settings.redis_serving.get_secret_value())
    state = connect(settings.redis_state.get_secret_value())
    until = clock()
    progress("tombstone")
    digest = bury(lake.objects, key, user_id, until)
    with redis_errors(serving):
        mark_erased(serving, key, user_id, to_micros(until))
    began = time.monotonic()
    _wait_for_stream(lake, key, clock, wait_seconds, sleep, wake=lambda: nudge(serving, ORDERED))
    own = LakeErasure(lake, user_id, f"{until:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
    models = _remember_models(lake, digest, own)
    online: Counter[str] = Counter()

    def sweep(what: str) -> None:
        progress(what)
        online.update({f"{project} online": count for project, count in forget_features(settings, user_id).items()})
        online.update(forget_serving(serving, user_id))
        online.update(forget_state(state, user_id))
        own.supersede(at=clock())

    sweep("online stores and lake")
    sleep(max(0.0, settle_seconds - (time.monotonic() - began)))
    _wait_for_runs(lake, clock, wait_seconds, sleep)
    models = _remember_models(lake, digest, own)  # a training that began earlier may have finished meanwhile
    with _leases(lake, LEASES, clock, wait_seconds, sleep):
        sweep("once more, for what was being written")
        progress("old files, snapshots and reports")
        own.purge()
        own.purge_beside(before=until)
        own.revise_snapshots()
        own.revise_documents()
        own.purge_versions()
    progress("receipt")
    receipt = Receipt(
        person=digest,
        erased_until=until,
        finished_at=clock(),
        found=bool(+online or +own.removed or own.files or own.documents or own.versions.deleted or models),
        removed=tuple(_removed(online, own)),
        remaining=tuple(remaining(settings, own.versions, now=clock())),
        revised_snapshots=tuple(sorted(own.snapshots)),
        models=tuple(models),
        skipped=tuple(sorted(own.skipped)),
    )
    lake.objects.put(_receipt_key(digest, until), receipt.model_dump_json(indent=1).encode())
    lake.objects.delete(_pending_key(digest))
    return receipt


def _receipt_key(digest: str, until: datetime) -> str:
    return f"{RECEIPTS}{digest}/{to_micros(until):020d}.json"


def _pending_key(digest: str) -> str:
    return f"{RECEIPTS}{digest}/pending.json"


def _remember_models(lake: Lake, digest: str, own: LakeErasure) -> list[str]:
    """Return the models to retrain, including those that a killed run found: after the rewrite they cannot be told any more."""
    try:
        earlier = lake.get_json(_pending_key(digest))["models"]
    except ObjectMissing:
        earlier = []
    assert isinstance(earlier, list)
    models = sorted({*map(str, earlier), *own.trained_on()})
    lake.put_json(_pending_key(digest), {"models": models})
    return models


def _removed(online: Counter[str], own: LakeErasure) -> Iterator[RemovedRows]:
    for place, count in sorted((+online).items()):
        yield RemovedRows(place=f"Redis: {place}", what="keys", count=count)
    for dataset, count in sorted(own.removed.items()):
        yield RemovedRows(place=f"lake: {dataset}", what="rows", count=count)
    for dataset, count in sorted(own.files.items()):
        yield RemovedRows(place=f"lake: {dataset}", what="old files deleted or rewritten", count=count)
    for folder, count in sorted(own.documents.items()):
        yield RemovedRows(place=f"lake: {folder}", what="documents rewritten", count=count)
    if own.versions.deleted:
        yield RemovedRows(place="lake", what="old versions deleted", count=own.versions.deleted)
    if own.unfinished:
        yield RemovedRows(place="lake", what="writes that were killed, whoever they were about", count=own.unfinished)


def _wait_for_stream(
    lake: Lake,
    key: bytes,
    clock: Clock,
    seconds: float,
    sleep: Callable[[float], None],
    wake: Callable[[], None],
) -> None:
    """Wait until the running stream has acknowledged the tombstone. Without a running stream, return at once.

    `wake` asks the stream to look now, which it does by itself every ten seconds only.
    """
    count = read_tombstones(lake.objects, key).count
    stream = watched_stream_lease(lake.objects, watcher="stillpoint erase", clock=clock)
    end = time.monotonic() + seconds
    while acknowledged_erasures(lake.objects) < count:
        holder = stream.holder()
        if holder is None:
            return
        if time.monotonic() > end:
            raise StackUnavailable(
                f"{holder.holder} has not obeyed the tombstone within {seconds:.0f} s; look at its log, or stop it, and run "
                "`stillpoint erase` again"
            )
        wake()
        sleep(0.1)


def _wait_for_runs(lake: Lake, clock: Clock, seconds: float, sleep: Callable[[float], None]) -> None:
    """Wait until every job has ended that read the lake before the first sweep and may still write."""
    end = time.monotonic() + seconds
    while running := active_jobs(lake.objects, clock=clock):
        if time.monotonic() > end:
            raise StackUnavailable(
                f"{running[0].holder} may still write rows of the user after {seconds:.0f} s; wait for it or stop it, and run "
                "`stillpoint erase` again"
            )
        sleep(0.5)


@contextmanager
def _leases(
    lake: Lake, names: Sequence[str], clock: Clock, seconds: float, sleep: Callable[[float], None]
) -> Iterator[None]:
    """Hold the leases of jobs that read old files or write in place, after their present holders have finished."""
    holder = f"stillpoint erase, process {os.getpid()} on {socket.gethostname()}"
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        for name in names:
            lease = Lease(lake.objects, name, holder=holder, ttl=LEASE_TTL, clock=clock)
            while True:
                try:
                    lease.acquire()
                    break
                except LeaseHeld as held:
                    if time.monotonic() > end:
                        raise StackUnavailable(f"{held}; then run `stillpoint erase` again") from None
                    sleep(0.5)
            stack.callback(lease.release)
            stack.enter_context(renewing(lease, every=LEASE_TTL.total_seconds() / 5, lost=_lost))
        yield


def _lost(error: Any) -> None:
    """Log that a lease was lost: what another job writes meanwhile is found by the next run."""
