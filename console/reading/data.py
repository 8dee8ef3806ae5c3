"""The lake by dataset and day, the quarantine, what was expected and found, snapshots and experiments."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from console.sources import Sources
from release.gate import read_report
from release.states import last_report
from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.snapshots import SnapshotManifest

DAYS = 14
QUARANTINED = 25
SERVED = 5_000
SHOWN_BYTES = 160
_OF_DATA = ("expectations", "lake expectations", "served parity", "parity", "freshness", "coverage")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset: its files and rows that count, the days it covers, and the rows of each of the last days."""

    name: str
    files: int
    rows: int
    first: date
    last: date
    by_day: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class QuarantinedRecord:
    """A record that is no event: when it arrived, what is wrong with it, and its first bytes."""

    arrived_at: datetime
    field: str | None
    reason: str
    shard: str
    payload: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The newest quarantined records of the last days, and how many are of each reason."""

    rows: int
    reasons: tuple[tuple[str, int], ...]
    newest: tuple[QuarantinedRecord, ...]


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What a check of the data found, and what was expected; `of` is the gate or snapshot that asked, `at` when."""

    of: str
    name: str
    passed: bool
    found: str
    expected: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """One training set."""

    id: str
    cutoff: datetime
    rows: int
    positives: int
    data: str
    expectations: str


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One arm of the experiment, and what its users were answered lately: how many answers, by source."""

    name: str
    share: float
    ordering: str
    answers: int
    sources: tuple[tuple[str, int], ...]


def datasets(lake: Lake, today: date) -> tuple[Dataset, ...]:
    """Return every dataset of the lake, by name."""
    commits = lake.commits()
    gone = {path for commit in commits for path in commit.supersedes}
    held: defaultdict[str, dict[str, CommittedFile]] = defaultdict(dict)
    for commit in commits:
        for file in commit.files:
            if file.path not in gone:
                held[file.dataset][file.path] = file
    return tuple(_dataset(name, list(held[name].values()), today) for name in sorted(held))


def _dataset(name: str, files: Sequence[CommittedFile], today: date) -> Dataset:
    rows: Counter[date] = Counter()
    for file in files:
        rows[file.date] += file.rows
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    by_day = tuple((day.isoformat(), float(rows.get(day, 0))) for day in days)
    return Dataset(name, len(files), sum(rows.values()), min(rows), max(rows), by_day)


def quarantine(lake: Lake, today: date) -> Quarantine:
    """Read the quarantine's newest records of the last days."""
    days = DateRange(first=today - timedelta(days=DAYS))
    table = lake.newest("quarantine", SERVED, days).sort_by([("arrived_at", "descending")])
    reasons = Counter(_reason(row) for row in table.select(["field", "reason"]).to_pylist())
    newest = table.slice(0, QUARANTINED).to_pylist()
    return Quarantine(table.num_rows, tuple(reasons.most_common(8)), tuple(map(_record, newest)))


def _reason(row: dict[str, Any]) -> str:
    return row["reason"] if row["field"] is None else f"{row['field']}: {row['reason']}"


def _record(row: dict[str, Any]) -> QuarantinedRecord:
    payload: bytes = row["payload"]
    shown = ascii(payload[:SHOWN_BYTES])[2:-1] + ("…" if len(payload) > SHOWN_BYTES else "")
    return QuarantinedRecord(row["arrived_at"], row["field"], row["reason"], row["shard"], shown, len(payload))


def checks(sources: Sources) -> tuple[DataCheck, ...]:
    """Return what the gate of the live release found of the data, and what its snapshot was expected to be."""
    book = ObjectReleaseBook(sources.lake.objects)
    pointer = book.live()
    if pointer is None:
        return ()
    found: list[DataCheck] = []
    key = last_report(book, pointer.release)
    if key is not None:
        report = read_report(sources.lake.objects, key)
        found += [
            DataCheck(f"gate of {report.release}", one.name, one.passed, one.found, one.expected, report.at)
            for one in report.results
            if one.name in _OF_DATA
        ]
    record = book.get(pointer.release)
    manifest = next((one for one in _manifests(sources.lake) if one.id == record.snapshot_id), None)
    for one in (manifest.expectations or ()) if manifest is not None else ():
        if not one.passed:
            said = f"{one.unexpected:,} of {one.checked:,} rows break it"
            name = one.column or "rows"
            found.append(DataCheck(f"snapshot {record.snapshot_id}", name, False, said, one.expected, None))
    if manifest is not None and manifest.expectations and all(one.passed for one in manifest.expectations):
        said = f"{len(manifest.expectations)} expectations hold in {manifest.rows:,} rows"
        found.append(
            DataCheck(f"snapshot {manifest.id}", "expectations", True, said, "every declared range and set", None)
        )
    return tuple(found)


def snapshots(lake: Lake) -> tuple[SnapshotLine, ...]:
    """Return every training set, the newest first."""
    ordered = sorted(_manifests(lake), key=lambda one: one.cutoff, reverse=True)
    return tuple(
        SnapshotLine(one.id, one.cutoff, one.rows, one.positives, one.data, _expectations(one)) for one in ordered
    )


def _manifests(lake: Lake) -> list[SnapshotManifest]:
    found = []
    for key in lake.objects.list("snapshots/"):
        if key.endswith("/manifest.json"):
            try:
                found.append(SnapshotManifest.model_validate_json(lake.objects.get(key)))
            except ObjectMissing:
                continue
            except ValueError as error:
                raise CorruptData(f"{lake.root}/{key} cannot be read: {error}") from None
    return found


def _expectations(manifest: SnapshotManifest) -> str:
    if manifest.expectations is None:
        return "not checked"
    broken = sum(not one.passed for one in manifest.expectations)
    return f"{broken} of {len(manifest.expectations)} broken" if broken else f"{len(manifest.expectations)} hold"


def arms(sources: Sources) -> tuple[ArmLine, ...]:
    """Return the experiment's arms with the newest answers of each."""
    days = DateRange(first=sources.clock().date() - timedelta(days=DAYS))
    table = sources.lake.newest("served", SERVED, days, columns=["arm", "source"])
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in table.to_pylist():
        counted[row["arm"]][row["source"]] += 1
    return tuple(
        ArmLine(
            arm.name,
            arm.share,
            arm.ordering.value,
            sum(counted[arm.name].values()),
            tuple(sorted(counted[arm.name].items())),
        )
        for arm in sources.settings.experiment.arms
    )
