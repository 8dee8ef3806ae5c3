"""Vacuums a lake, or says what a run would delete.

Under the leases of releases and compaction. Days past their retention are taken out by a commit first, and their files go a later
time like all that is superseded. Right before files are deleted, the commits are read anew. Killed anywhere, it can be run again.
"""

import os
import socket
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow.fs as pafs

from ingestion.vacuum.plan import (
    Retention,
    StoredFile,
    UnusedFile,
    VacuumKind,
    ended_releases,
    expired,
    live_paths,
    stood_for,
    unused_files,
)
from stillpoint.clock import Clock
from stillpoint.errors import CorruptData, Fenced, ObjectMissing
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import is_declared
from stillpoint.lake.tables import Lake
from stillpoint.leases.active_jobs import active_jobs
from stillpoint.leases.lease import Lease, renewing
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.records import Release
from stillpoint.settings import Settings

SEEN = "vacuum/unused.json"
"""Since when files have been seen that no commit counts, and none says why."""
LEASES = ("release", "compact")
LEASE_TTL = timedelta(seconds=30)
_DATED = {"quarantine": VacuumKind.QUARANTINE, "served": VacuumKind.SERVED}
_THREADS = 16
_TOGETHER = 500


@dataclass(slots=True)
class VacuumReport:
    """Files and bytes by kind: those that were deleted or, of a dry run, would be. Days past their retention count when they
    are taken out; their files go with the superseded ones later."""

    files: Counter[VacuumKind] = field(default_factory=Counter)
    bytes: Counter[VacuumKind] = field(default_factory=Counter)

    def add(self, doomed: UnusedFile) -> None:
        self.files[doomed.kind] += 1
        self.bytes[doomed.kind] += doomed.file.size


def retention(settings: Settings) -> Retention:
    """Return the retention of the settings.

    Raises:
        InvalidSettings: it is shorter than the rollback window.
    """
    wanted = Retention(
        grace=timedelta(seconds=settings.vacuum_grace),
        quarantine=timedelta(days=settings.quarantine_days),
        served=timedelta(days=settings.served_days),
        releases=timedelta(days=settings.releases_days),
    )
    wanted.refuse_shorter_than(timedelta(seconds=settings.rollback_keep))
    return wanted


def vacuum(lake: Lake, wanted: Retention, *, clock: Clock, dry_run: bool = False) -> VacuumReport:
    """Delete what nobody can want any more, and report it. A dry run changes nothing.

    Raises:
        LeaseHeld: a release verb, a compaction or an erasure runs. Nothing was done.
        Fenced: a lease was lost meanwhile; what was deleted by then was right.
    """
    if dry_run:
        return _run(lake, wanted, clock(), clock, dry_run=True, check=lambda: None)
    with _exclusive(lake, clock) as check:
        return _run(lake, wanted, clock(), clock, dry_run=False, check=check)


def _run(
    lake: Lake, wanted: Retention, now: datetime, clock: Clock, *, dry_run: bool, check: Callable[[], None]
) -> VacuumReport:
    jobs = [job.at for job in active_jobs(lake.objects, clock=clock)]
    before = min([now - wanted.grace, *jobs])
    files = list(_stored(lake, now))
    commits = lake.commits()
    by_key = {file.key: file for file in files}
    report = VacuumReport()
    days: list[CommittedFile] = []
    for dataset, kind in _DATED.items():
        keep = wanted.quarantine if kind is VacuumKind.QUARANTINE else wanted.served
        for old in expired(commits, dataset, (now - keep).date()):
            if (found := by_key.get(old.path)) is not None:
                report.add(UnusedFile(kind, found))
            days.append(old)
    seen = _seen(lake)
    datasets = {file.dataset for commit in commits for file in commit.files}
    datasets |= {folder for file in files if is_declared(folder := file.key.partition("/date=")[0])}
    doomed, noted = unused_files(files, commits, datasets, seen, before=before, now=now)
    doomed += stood_for(files, lake.checkpoint(), before=before)
    book = ObjectReleaseBook(lake.objects)
    doomed += ended_releases(files, book.histories(), _records(book), before=min(now - wanted.releases, before))
    for one in doomed:
        report.add(one)
    if dry_run:
        return report
    if days:
        check()
        writer = f"vacuum-{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
        lake.commit(Commit(writer=writer, sequence=0, at=now, supersedes=tuple(file.path for file in days)))
    left = {key: at.isoformat() for key, at in noted.items()}
    if left or seen:
        lake.put_json(SEEN, left)
    _delete(lake, doomed, check)
    return report


def _delete(lake: Lake, doomed: Sequence[UnusedFile], check: Callable[[], None]) -> None:
    """Delete files, some at a time, none of which counts by the commits of that moment."""
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(doomed), _TOGETHER):
            check()
            live = live_paths(lake.commits())
            part = [one.file.key for one in doomed[start : start + _TOGETHER] if one.file.key not in live]
            list(pool.map(lake.objects.delete, part))


def _stored(lake: Lake, now: datetime) -> Iterator[StoredFile]:
    """Yield every object of the lake with its size and age."""
    filesystem, root = lake.objects.arrow()
    found = filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    for info in sorted(found, key=lambda info: info.path):
        if info.type is pafs.FileType.File:
            modified = info.mtime or now  # of unknown age: young
            yield StoredFile(info.path[len(root) :].lstrip("/"), info.size or 0, modified.astimezone(UTC))


def _records(book: ObjectReleaseBook) -> dict[str, Release]:
    return {release_id: book.get(release_id) for release_id in book.releases()}


def _seen(lake: Lake) -> dict[str, datetime]:
    try:
        return {key: datetime.fromisoformat(str(at)) for key, at in lake.get_json(SEEN).items()}
    except ObjectMissing:
        return {}
    except ValueError as error:
        raise CorruptData(f"{lake.root}/{SEEN} is no list of files: {error}; delete it, and ages begin anew") from None


@contextmanager
def _exclusive(lake: Lake, clock: Clock) -> Iterator[Callable[[], None]]:
    """Hold the leases of who names, replaces or restores files; the block's argument raises once one is lost."""
    holder = f"stillpoint vacuum, process {os.getpid()} on {socket.gethostname()}"
    lost: list[Fenced] = []

    def check() -> None:
        if lost:
            raise lost[0]

    with ExitStack() as stack:
        for name in LEASES:
            lease = Lease(lake.objects, name, holder=holder, ttl=LEASE_TTL, clock=clock)
            lease.acquire()
            stack.callback(lease.release)
            stack.enter_context(
                renewing(lease, every=LEASE_TTL.total_seconds() / 5, lost=lost.append, give_up=LEASE_TTL)
            )
        yield check
