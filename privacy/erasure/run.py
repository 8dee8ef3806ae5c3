"""The steps of an erasure, in the order in which nothing brings the user back.

1. Write a tombstone: once they have read it, the stream, workers and logs drop the user's events up to now.
2. Wait until the stream has acknowledged it; what it wrote before is in the stores by then.
3. Online: delete the features of every colour, stored recommendations, and the stream's states.
4. The lake: one commit supersedes every file with rows of the user.
5. When runs that read the lake before are over (backfill, daily, snapshot, materialize), under the leases of releases and
   compaction (a fill under way ends first): the same again for what was written in
   between, then the old files are deleted and snapshots revised, and in a versioned bucket their old versions deleted.

It can be repeated after a kill at any point. Many users are erased in one pass: the lake is read as often as for one.
"""

import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, TypedDict, Unpack

from privacy.erasure.lake import LakeErasure, UserTraces
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
PUBLISH = "publish"
OWN_LEASE = "erase"
"""The lease of erasures: two at once would rewrite the same files and double the rows of all other users."""
LEASE_TTL = timedelta(seconds=30)
SETTLE_SECONDS = 5.0
"""How long workers and logs may take to finish a write that began before they read the tombstone."""


def erase(settings: Settings, lake: Lake, user_id: str, *, clock: Clock, **how: Unpack["ErasureOptions"]) -> Receipt:
    """Erase one user everywhere and return the receipt, as `erase_users` does for many."""
    (receipt,) = erase_users(settings, lake, [user_id], clock=clock, **how)
    return receipt


class ErasureOptions(TypedDict, total=False):
    """How long an erasure waits for others, and whom it tells of its steps."""

    wait_seconds: float
    settle_seconds: float
    progress: Callable[[str], None]
    sleep: Callable[[float], None]
    publish: Callable[[], object] | None


def erase_users(
    settings: Settings,
    lake: Lake,
    users: Sequence[str],
    *,
    clock: Clock,
    wait_seconds: float = 900.0,
    settle_seconds: float = SETTLE_SECONDS,
    progress: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
    publish: Callable[[], object] | None = None,
) -> list[Receipt]:
    """Erase users everywhere in one pass, and return a receipt for each in their order. Receipts are kept in the lake's
    `reports/erasures/` too.

    `publish` brings open tables up to the lake, under their lease: before old files are deleted, so that no table names a file that is gone.

    Raises:
        InvalidInput: an id is malformed; nothing was erased.
        StackUnavailable: a store is down, or the stream or a fill did not finish within `wait_seconds`; run it again.
    """
    whom = list(dict.fromkeys(checked(user) for user in users))
    with _leases(lake, (OWN_LEASE,), clock, wait_seconds, sleep):
        return _erase(settings, lake, whom, clock, wait_seconds, settle_seconds, progress, sleep, publish)


def _erase(
    settings: Settings,
    lake: Lake,
    users: Sequence[str],
    clock: Clock,
    wait_seconds: float,
    settle_seconds: float,
    progress: Callable[[str], None],
    sleep: Callable[[float], None],
    publish: Callable[[], object] | None,
) -> list[Receipt]:
    key = erasure_key(settings)
    serving = connect(settings.redis_serving.get_secret_value())
    state = connect(settings.redis_state.get_secret_value())
    until = clock()
    progress("tombstone")
    digests = bury(lake.objects, key, users, until)
    with redis_errors(serving):
        for user in users:
            mark_erased(serving, key, user, to_micros(until))
    began = time.monotonic()
    _wait_for_stream(lake, key, clock, wait_seconds, sleep, wake=lambda: nudge(serving, ORDERED))
    whom = frozenset(users)
    own = LakeErasure(lake, whom, f"{until:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}")
    models = _remember_models(lake, digests, own)
    online: dict[str, Counter[str]] = {user: Counter() for user in users}

    def sweep(what: str) -> None:
        progress(what)
        for user, found in forget_features(settings, lake.features, whom).items():
            online[user].update({f"{project} online": count for project, count in found.items()})
        for keys in (forget_serving(serving, whom), forget_state(state, whom)):
            for user, found in keys.items():
                online[user].update(found)
        own.supersede(at=clock())

    def tell_open_tables() -> None:
        if publish is not None:
            progress("open tables")
            with _leases(lake, (PUBLISH,), clock, wait_seconds, sleep):
                publish()

    sweep("online stores and lake")
    sleep(max(0.0, settle_seconds - (time.monotonic() - began)))
    _wait_for_runs(lake, clock, wait_seconds, sleep)
    models = _remember_models(lake, digests, own)  # a training that began earlier may have finished meanwhile
    with _leases(lake, LEASES, clock, wait_seconds, sleep):
        sweep("once more, for what was being written")
        tell_open_tables()
        progress("old files, snapshots and reports")
        own.purge()
        own.purge_beside(before=until)
        own.revise_snapshots()
        own.revise_documents()
        own.purge_versions()
        tell_open_tables()
    progress("receipt")
    left, finished = tuple(remaining(settings, own.versions, now=clock())), clock()
    receipts = []
    for user in users:
        traces, deleted = own.traces[user], own.versions.deleted[user]
        receipt = Receipt(
            person=digests[user],
            erased_until=until,
            finished_at=finished,
            found=bool(+online[user] or +traces.removed or traces.files or traces.documents or deleted or models[user]),
            removed=tuple(_removed(online[user], traces, deleted, own.unfinished)),
            remaining=left,
            revised_snapshots=tuple(sorted(traces.snapshots)),
            models=tuple(models[user]),
            skipped=tuple(sorted(own.skipped | traces.skipped)),
        )
        lake.objects.put(_receipt_key(digests[user], until), receipt.model_dump_json(indent=1).encode())
        lake.objects.delete(_pending_key(digests[user]))
        receipts.append(receipt)
    return receipts


def _receipt_key(digest: str, until: datetime) -> str:
    return f"{RECEIPTS}{digest}/{to_micros(until):020d}.json"


def _pending_key(digest: str) -> str:
    return f"{RECEIPTS}{digest}/pending.json"


def _remember_models(lake: Lake, digests: Mapping[str, str], own: LakeErasure) -> dict[str, list[str]]:
    """Return the models to retrain by user, including those that a killed run found: after the rewrite they cannot be told any more."""
    models: dict[str, list[str]] = {}
    for user, found in own.trained_on().items():
        try:
            earlier = lake.get_json(_pending_key(digests[user]))["models"]
        except ObjectMissing:
            earlier = []
        assert isinstance(earlier, list)
        models[user] = sorted({*map(str, earlier), *found})
        lake.put_json(_pending_key(digests[user]), {"models": models[user]})
    return models


def _removed(online: Counter[str], traces: UserTraces, deleted: int, unfinished: int) -> Iterator[RemovedRows]:
    for place, count in sorted((+online).items()):
        yield RemovedRows(place=f"Redis: {place}", what="keys", count=count)
    for dataset, count in sorted(traces.removed.items()):
        yield RemovedRows(place=f"lake: {dataset}", what="rows", count=count)
    for dataset, count in sorted(traces.files.items()):
        yield RemovedRows(place=f"lake: {dataset}", what="old files deleted or rewritten", count=count)
    for folder, count in sorted(traces.documents.items()):
        yield RemovedRows(place=f"lake: {folder}", what="documents rewritten", count=count)
    if deleted:
        yield RemovedRows(place="lake", what="old versions deleted", count=deleted)
    if unfinished:
        yield RemovedRows(place="lake", what="writes that were killed, whoever they were about", count=unfinished)


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
