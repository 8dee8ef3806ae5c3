"""Reconciliation: checks that every record got a verdict, and that online values equal the lake's newest rows.

Verdicts are summed over the commits of streams, whose files must hold as many rows, by their manifests and as read. Online values are
compared as bytes with the newest row in the lake; entities that only one side has are counted too.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stillpoint.app.records import View
from stillpoint.clock import Clock, system_clock, to_micros
from stillpoint.events.types import Verdict
from stillpoint.lake.checkpoint import CheckpointedCommit
from stillpoint.lake.commits import ISOLATED, Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.outages import outage
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.deletion import project_keys
from stillpoint.stores.redis.hash_read import HashRead
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.pipeline import send
from stillpoint.stores.redis.writer import encode_rows
from stillpoint.stores.values.times import decode_time

_STORED = (Verdict.ON_TIME, Verdict.LATE, Verdict.DUPLICATE)
_RECORDS = ("events", "quarantine")
_PER_ROUND_TRIP = 1_000
_FILES_AT_ONCE = 16


@dataclass(slots=True)
class ViewComparison:
    """One view of one project: entities that are equal, differ, are missing online, or are online without a row in the lake.

    `expired` entities are no difference: the lake's newest row is older than the view's time to live, so a fill leaves it out and a read
    does not return it.
    """

    equal: int = 0
    expired: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0

    @property
    def difference(self) -> int:
        return self.different + self.missing + self.extra


@dataclass(slots=True)
class Reconciliation:
    """`verdicts` are sums over all commits of streams; `unequal_commits` those whose files do not hold their sums;
    `damaged_files` are files of records that are missing, unreadable or hold another number of rows than was committed."""

    verdicts: dict[str, int] = field(default_factory=dict)
    unequal_commits: list[str] = field(default_factory=list)
    damaged_files: list[str] = field(default_factory=list)
    views: dict[str, ViewComparison] = field(default_factory=dict)

    @property
    def difference(self) -> int:
        apart = sum(compared.difference for compared in self.views.values())
        return len(self.unequal_commits) + len(self.damaged_files) + apart

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "records": sum(self.verdicts.values()), "difference": self.difference}


def reconcile(
    lake: Lake, projects: Mapping[str, tuple[Any, Iterable[str]]], *, clock: Clock = system_clock
) -> Reconciliation:
    """Compare each commit's verdicts with its files, and the lake with each project, given as Redis client and streamed views.

    Values past their time to live need not be online, as for fill and gate. Since the stream may be running, a pair that differs is
    compared once more with the lake's rows of that moment.
    """
    result = Reconciliation()
    _sum_commits(lake, result)
    result.damaged_files = _damaged_files(lake)
    for project, (client, names) in projects.items():
        wanted = set(names)
        for view in (*(view for view in lake.features.streamed if view.name in wanted), *lake.features.daily):
            compared = _compare(lake, client, project, view, clock)
            if compared.difference:
                compared = _compare(lake, client, project, view, clock)
            result.views[f"{project}/{view.name}"] = compared
    return result


def holds_its_sums(commit: Commit) -> bool:
    """Return whether the files of a stream's commit hold as many records as it counted verdicts; true for other commits."""
    if not commit.writer.startswith("stream-"):
        return True
    counts = _verdicts(commit)
    rows = dict.fromkeys(_RECORDS, 0)
    for file in commit.files:
        if file.dataset in rows:
            rows[file.dataset] += file.rows
    return rows == {
        "events": sum(counts[verdict] for verdict in _STORED),
        "quarantine": counts[Verdict.QUARANTINED] + int(commit.properties.get(ISOLATED) or 0),
    }


def _verdicts(commit: Commit) -> dict[Verdict, int]:
    return {verdict: int(commit.properties.get(f"verdict_{verdict}") or 0) for verdict in Verdict}


def _sum_commits(lake: Lake, result: Reconciliation) -> None:
    for commit in lake.commits():
        if not commit.writer.startswith("stream-"):
            continue
        for verdict, count in _verdicts(commit).items():
            result.verdicts[str(verdict)] = result.verdicts.get(str(verdict), 0) + count
        # Files of folded commits were checked by the fold; since then they may have been merged or replaced.
        if not isinstance(commit, CheckpointedCommit) and not holds_its_sums(commit):
            result.unequal_commits.append(commit.key)


def _damaged_files(lake: Lake) -> list[str]:
    filesystem, root = lake.objects.arrow()

    def rows(path: str) -> int | None:
        try:
            return int(pq.read_metadata(f"{root}/{path}", filesystem=filesystem).num_rows)
        except (OSError, pa.ArrowInvalid) as error:
            if outage(error) is not None:
                raise
            return None

    files = [file for dataset in _RECORDS for file in lake.files(dataset) if file.rows]
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        found = list(pool.map(lambda file: rows(file.path), files))
    return [file.path for file, count in zip(files, found, strict=True) if count != file.rows]


def _compare(lake: Lake, client: RedisClient, project: str, view: View, clock: Clock) -> ViewComparison:
    layout = ViewLayout.of(view)
    compared = ViewComparison()
    keys = list(project_keys(client, project, view.entity.keys))
    fields = (layout.event_field, layout.created_field, *layout.fields)
    online = dict(zip(keys, _read(client, keys, fields), strict=True))
    newest = _newest(lake, view)
    rows = encode_rows(layout, newest, project)
    happened = newest["event_timestamp"].cast(pa.int64()).to_pylist()
    oldest = (
        None if layout.max_age_us is None else to_micros(clock()) - layout.max_age_us
    )  # as served, after both reads
    for index, key in enumerate(rows.keys):
        stored = online.pop(key, None)
        expired = oldest is not None and happened[index] < oldest
        if stored is None or stored[0] is None:
            compared.expired += expired
            compared.missing += not expired
        elif expired and decode_time(stored[0]) < happened[index]:
            compared.expired += 1
        elif stored == [rows.events[index], rows.created[index], *(column[index] for column in rows.values)]:
            compared.equal += 1
        else:
            compared.different += 1
    compared.extra = sum(stored[0] is not None for stored in online.values())
    return compared


def _newest(lake: Lake, view: View) -> pa.Table:
    """Return each entity's row with the greatest (event time, created time)."""
    table = lake.read(feature_dataset(view))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    keys = list(view.entity.keys)
    newest = frame.sort(*keys, "event_timestamp", "created_timestamp").unique(keys, keep="last", maintain_order=True)
    return newest.to_arrow().cast(table.schema)


def _read(client: RedisClient, keys: list[bytes], fields: tuple[bytes, ...]) -> Iterable[list[bytes | None]]:
    read = HashRead(fields)
    for start in range(0, len(keys), _PER_ROUND_TRIP):
        yield from send(client, read.commands(keys[start : start + _PER_ROUND_TRIP]))
