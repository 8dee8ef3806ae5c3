"""Gate check: the colour's online values equal the lake's newest rows."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from release.checks.sampling import ExpectedRows, expected_rows, micros
from release.gate import CheckResult, Subject
from stillpoint.app.records import View
from stillpoint.clock import to_micros
from stillpoint.stores.reading.types import Mode


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One entity's online row of a view; `event_us` is the smallest 64-bit integer where there is no row."""

    event_us: int
    values: Mapping[str, Any]


class Parity:
    name = "parity"

    def run(self, subject: Subject) -> CheckResult:
        """Compare sampled online rows with the lake's newest.

        The stream writes online first, so a row may be newer than the lake's: it must appear there, equal, within the re-readings.
        A row that is older than the lake's is counted as wrong at once.
        """
        thresholds = subject.thresholds
        compared: dict[str, float | None] = {}
        wrong: list[str] = []
        at_first = replace(subject, lake=subject.lake.frozen())
        for view in subject.lake.features.views:
            rows = expected_rows(at_first, view)
            compared[view.name] = float(len(rows))
            online = read_online(subject, view, rows)
            found, ahead = compare_newest(rows, online)
            for _ in range(thresholds.digest_reads - 1):
                if not ahead:
                    break
                time.sleep(thresholds.digest_pause_seconds)
                late, ahead = compare_moments(expected_rows(subject, view, ahead), ahead)
                found |= late
            found |= dict.fromkeys(ahead, "is ahead of the lake, and never arrived there")
            wrong += [f"{view.name} {entity} {why}" for entity, why in sorted(found.items())]
        return CheckResult(
            name=self.name,
            passed=len(wrong) <= thresholds.parity_mismatches and any(compared.values()),
            found=f"{len(wrong)} of {sum(value or 0 for value in compared.values()):.0f} rows differ from the lake",
            expected=f"at most {thresholds.parity_mismatches}",
            numbers=compared,
            examples=tuple(wrong[:10]),
        )


def read_online(subject: Subject, view: View, rows: ExpectedRows) -> dict[str, StoredRow]:
    """Return the online rows of the sampled entities, also those past their time to live."""
    if not len(rows):
        return {}
    ids = rows.frame[rows.key].to_list()
    read = subject.candidate.reader.read([view.name], rows.asked(), now_us=subject.now_us, mode=Mode.COMPAT)
    values = zip(*(read.values(feature.name) for feature in view), strict=True)
    return {
        one: StoredRow(int(event_us), dict(zip(view.feature_names, row, strict=True)))
        for one, event_us, row in zip(ids, read.event_us(view.name), values, strict=True)
    }


def compare_newest(rows: ExpectedRows, online: Mapping[str, StoredRow]) -> tuple[dict[str, str], dict[str, StoredRow]]:
    """Return what is wrong by entity, and the rows that are ahead of the lake."""
    wrong: dict[str, str] = {}
    ahead: dict[str, StoredRow] = {}
    if not len(rows):
        return wrong, ahead
    for row, event_us in zip(rows.frame.to_dicts(), micros(rows.frame, "event_timestamp"), strict=True):
        entity = row[rows.key]
        stored = online[entity]
        if stored.event_us > event_us:
            ahead[entity] = stored
        elif stored.event_us < event_us:
            wrong[entity] = "is older than the lake's, or missing"
        elif not equal(stored, row):
            wrong[entity] = "has other values than the lake"
    return wrong, ahead


def compare_moments(rows: ExpectedRows, ahead: Mapping[str, StoredRow]) -> tuple[dict[str, str], dict[str, StoredRow]]:
    """Look for the rows that were ahead among all event times in the lake; return the wrong ones, and those still ahead."""
    moments = {(row[rows.key], to_micros(row["event_timestamp"])): row for row in rows.moments.to_dicts()}
    wrong: dict[str, str] = {}
    still: dict[str, StoredRow] = {}
    for entity, stored in ahead.items():
        row = moments.get((entity, stored.event_us))
        if row is None:
            still[entity] = stored
        elif not equal(stored, row):
            wrong[entity] = "has other values than the lake"
    return wrong, still


def equal(stored: StoredRow, row: Mapping[str, Any]) -> bool:
    """Return whether a row holds the same values; null equals only null, embeddings are compared bit for bit."""
    return all(_same(value, row[name]) for name, value in stored.values.items())


def _same(online: Any, lake: Any) -> bool:
    if online is None or lake is None:
        return online is None and lake is None
    if isinstance(lake, list) and not all(isinstance(one, float) for one in lake):
        return list(online) == lake
    if isinstance(lake, list):
        return bool(np.array_equal(np.asarray(online, np.float32), np.asarray(lake, np.float32)))
    return bool(online == lake)
