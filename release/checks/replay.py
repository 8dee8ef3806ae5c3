"""Gate check: how differently the candidate ranks the candidates of recently served requests."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow.compute as pc

from release.gate import CheckResult, Subject
from release.ranking import rank
from stillpoint.lake.datasets import DateRange
from stillpoint.messages import Kind

FIRST = 10


class Replay:
    name = "replay"

    def run(self, subject: Subject) -> CheckResult:
        """Rank the candidates of the newest served requests with both releases, and compare the first ten."""
        thresholds = subject.thresholds
        expected = f"every request ranked, mean overlap of the first {FIRST} at least {thresholds.replay_overlap:.0%}"
        requests = recent_requests(subject, thresholds.replay_requests)
        if not requests:
            return CheckResult(name=self.name, passed=True, found="no recent request is recorded", expected=expected)
        overlaps: list[float] = []
        failed: list[str] = []
        for user_id, kind, contents in requests:
            new = rank(subject.candidate, user_id, kind, contents, now_us=subject.now_us)
            if not np.isfinite(new).all():
                failed.append(f"{user_id} {kind}")
                continue
            if subject.live is not None:
                old = rank(subject.live, user_id, kind, contents, now_us=subject.now_us)
                overlaps.append(overlap(contents, new, old))
        mean = float(np.mean(overlaps)) if overlaps else None
        same = "nothing is live to compare with" if mean is None else f"mean overlap {mean:.0%}"
        return CheckResult(
            name=self.name,
            passed=not failed and (mean is None or mean >= thresholds.replay_overlap),
            found=f"{len(requests)} requests, {len(failed)} without finite scores, {same}",
            expected=expected,
            numbers={"requests": float(len(requests)), "overlap": mean},
            series={"overlap": overlaps},
            examples=tuple(failed[:10]),
        )


def recent_requests(subject: Subject, count: int) -> list[tuple[str, Kind, list[str]]]:
    """Return the newest served requests that were ranked by a model: user, kind and candidates."""
    if not count:
        return []
    days = DateRange(first=(subject.now - timedelta(days=2)).date())
    columns = ["served_at", "user_id", "kind", "candidates"]
    by_a_model = pc.list_value_length(pc.field("candidates")) > 0
    table = subject.lake.newest("served", count, days, columns=columns, where=by_a_model)
    rows = table.sort_by([("served_at", "descending")]).slice(0, count).to_pylist()
    return [(row["user_id"], Kind(row["kind"]), row["candidates"]) for row in rows]


def overlap(contents: Sequence[str], left: np.ndarray, right: np.ndarray) -> float:
    """Return the share of the first ten by `left` that are among the first ten by `right`; of fewer contents, the share of all.

    >>> overlap([f"c{n}" for n in range(20)], np.arange(20.0), np.arange(20.0)[::-1])
    0.0
    >>> overlap(["c1", "c2"], np.array([0.9, 0.1]), np.array([0.2, 0.8]))
    1.0
    """
    count = min(FIRST, len(contents))
    first = {contents[place] for place in np.argsort(-left, kind="stable")[:count]}
    second = {contents[place] for place in np.argsort(-right, kind="stable")[:count]}
    return len(first & second) / count
