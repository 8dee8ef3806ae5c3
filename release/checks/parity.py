"""Does the colour hold, value for value, the newest rows of the lake?"""

import time
from typing import Any

import numpy as np

from release.checks.sampling import Expected, expected_rows, micros
from release.gate import CheckResult, Subject
from stillpoint.features.declarations import VIEWS, DType, View
from stillpoint.stores.columns import Mode


class Parity:
    name = "parity"

    def run(self, subject: Subject) -> CheckResult:
        """Compare sampled rows with the lake. A newer online row is the stream's, ahead of the lake: read again later."""
        thresholds = subject.thresholds
        compared: dict[str, float | None] = {}
        wrong: list[str] = []
        for view in VIEWS:
            rows = expected_rows(subject, view)
            compared[view.name] = float(len(rows))
            for attempt in range(thresholds.digest_reads):
                differing = differences(subject, view, rows)
                if not differing:
                    break
                if attempt + 1 < thresholds.digest_reads:
                    time.sleep(thresholds.digest_pause_seconds)
                    rows = expected_rows(subject, view)
            wrong += differing if len(rows) else []
        return CheckResult(
            name=self.name,
            passed=len(wrong) <= thresholds.parity_mismatches and any(compared.values()),
            found=f"{len(wrong)} of {sum(value or 0 for value in compared.values()):.0f} rows differ from the lake",
            expected=f"at most {thresholds.parity_mismatches}",
            numbers=compared,
            examples=tuple(wrong[:10]),
        )


def differences(subject: Subject, view: View, rows: Expected) -> list[str]:
    """Name the sampled entities whose online row is not the lake's newest."""
    if not len(rows):
        return []
    ids = rows.frame[rows.key].to_list()
    read = subject.candidate.reader.read([view.name], {rows.key: ids}, now_us=subject.now_us, mode=Mode.COMPAT)
    stamps = read.event_us(view.name)
    found = [f"{view.name} {one}: event time" for one, online, lake in
             zip(ids, stamps, micros(rows.frame, "event_timestamp"), strict=True) if online != lake]  # fmt: skip
    bad = {text.split(":")[0] for text in found}
    for feature in view:
        values = read.values(feature.name)
        for one, online, lake in zip(ids, values, rows.frame[feature.name].to_list(), strict=True):
            label = f"{view.name} {one}"
            if label not in bad and not _equal(online, lake, feature.dtype):
                found.append(f"{label}: {feature.name}")
                bad.add(label)
    return found


def _equal(online: Any, lake: Any, dtype: DType) -> bool:
    if online is None or lake is None:
        return online is None and lake is None
    if dtype is DType.EMBEDDING:
        return bool(np.array_equal(np.asarray(online, np.float32), np.asarray(lake, np.float32)))
    return bool(online == lake)
