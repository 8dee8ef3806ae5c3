"""Which files of the lake nobody can want any more, of what kind, and since when. (pure)

A file may go only if no commit counts it *and* everybody who may have listed it before has had time to read it: `grace`, and as
long as jobs run that announced themselves earlier. What is live, what a rollback target or an unfinished release uses, and what was
not seen to be without use for that long, stays.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from stillpoint.errors import InvalidSettings
from stillpoint.lake.checkpoint import CHECKPOINTS, LogCheckpoint
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import TABLES
from stillpoint.releases.records import GONE, History, Release

_RUNS = ("compact-", "merge-", "erase-", "backfill-", "daily-", "served-", "stream-", "vacuum-")
"""How the names of files begin whose writer never writes the same name again."""


class VacuumKind(StrEnum):
    """Why a file goes."""

    SUPERSEDED = "superseded files"
    UNFINISHED = "writes that were never committed"
    CHECKPOINTS = "commits and checkpoints that a later checkpoint stands for"
    QUARANTINE = "quarantine past its retention"
    SERVED = "served log past its retention"
    RELEASES = "registries, plans and models of ended releases"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An object of the lake."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class UnusedFile:
    """A file that goes, and why."""

    kind: VacuumKind
    file: StoredFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept that nobody has asked for since."""

    grace: timedelta
    quarantine: timedelta
    served: timedelta
    releases: timedelta

    def refuse_shorter_than(self, rollback: timedelta) -> None:
        """Make sure that a rollback finds all it needs.

        Raises:
            InvalidSettings: one retention is shorter than the rollback window.
        """
        for name in ("quarantine", "served", "releases"):
            kept: timedelta = getattr(self, name)
            if kept < rollback:
                raise InvalidSettings(
                    f"the retention of {name} is {kept}, shorter than the rollback window of {rollback} "
                    "(STILLPOINT_ROLLBACK_KEEP), so a rollback could miss what it needs; keep it at least that long"
                )


def unused_files(
    files: Iterable[StoredFile],
    commits: Sequence[Commit],
    datasets: Collection[str],
    seen: Mapping[str, datetime],
    *,
    before: datetime,
    now: datetime,
) -> tuple[list[UnusedFile], dict[str, datetime]]:
    """Return the data files that go, and since when others of them have been seen without use.

    `before` is the moment up to which whoever listed a file has ended. `seen` is what the run before returned.
    """
    live = live_paths(commits)
    superseded: dict[str, datetime] = {}
    for commit in commits:
        for path in commit.supersedes:
            superseded[path] = max(commit.at, superseded.get(path, commit.at))
    doomed: list[UnusedFile] = []
    noted: dict[str, datetime] = {}
    for file in files:
        if file.key in live or not _is_data(file.key, datasets):
            continue
        since = superseded.get(file.key)
        kind = VacuumKind.SUPERSEDED
        if since is None:
            if not file.key.rpartition("/")[2].startswith(_RUNS):
                continue  # its writer may write it again by this very name, and commit it then
            kind = VacuumKind.UNFINISHED
            since = noted[file.key] = max(seen.get(file.key, now), file.modified)
        if since < before and file.modified < before:
            doomed.append(UnusedFile(kind, file))
    return doomed, noted


def live_paths(commits: Iterable[Commit]) -> set[str]:
    """Return the paths of the files that count."""
    commits = list(commits)
    gone = {path for commit in commits for path in commit.supersedes}
    return {file.path for commit in commits for file in commit.files if file.path not in gone}


def stood_for(files: Iterable[StoredFile], checkpoint: LogCheckpoint, *, before: datetime) -> list[UnusedFile]:
    """Return commits and checkpoints that a run of the log's checkpoint was killed before it deleted."""
    return [
        UnusedFile(VacuumKind.CHECKPOINTS, file)
        for file in files
        if file.modified < before
        and (
            (file.key.startswith(CHECKPOINTS) and file.key < checkpoint.key)
            or (file.key.startswith("commits/") and checkpoint.holds(file.key))
        )
    ]


def expired(commits: Sequence[Commit], dataset: str, last: date) -> list[CommittedFile]:
    """Return the files of a dataset that count and whose day is before `last`."""
    live = live_paths(commits)
    files = {file.path: file for commit in commits for file in commit.files if file.path in live}
    return sorted(
        (file for file in files.values() if file.dataset == dataset and file.date < last), key=lambda file: file.path
    )


def ended_releases(
    files: Iterable[StoredFile], histories: Sequence[History], records: Mapping[str, Release], *, before: datetime
) -> list[UnusedFile]:
    """Return what only releases use that ended before a moment: registries, read plans and model bundles.

    Records, intents and states stay, as an id is never given twice. A model that no release ever named stays too.
    """
    wanted: set[str] = set()
    released: set[str] = set()
    for history in histories:
        record = records.get(history.intent.id)
        keys = {route.model_uri for route in history.intent.routes.values()}
        if record is not None:
            keys |= {record.registry, record.read_plan, *(route.model_uri for route in record.routes.values())}
        ended = history.state in GONE and history.steps[-1].at < before
        (released if ended else wanted).update(keys)
    return [
        UnusedFile(VacuumKind.RELEASES, file)
        for file in files
        if file.key in released - wanted and file.modified < before
    ]


def _is_data(key: str, datasets: Collection[str]) -> bool:
    folder, day, _ = key.removeprefix(TABLES).partition("/date=")
    return bool(day) and key.endswith(".parquet") and folder in datasets
