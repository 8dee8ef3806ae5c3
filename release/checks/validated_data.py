"""Gate checks: the lake's rows, the colour's rows and what was served meet their expectations."""

import time
from datetime import timedelta
from functools import cache

from release.gate import Check, CheckResult, Subject
from stillpoint.encoder import Encoder, RememberingEncoder, WordLlamaEncoder
from stillpoint.errors import CorruptData
from stillpoint.features.streamed.history import AppHistory
from stillpoint.lake.datasets import feature_dataset
from validation.batches import newest_batches
from validation.expectations import validate
from validation.online import online_tables
from validation.outcome import ValidationResult
from validation.parity_run import ParityReport, StalenessLimits, check_parity
from validation.suites import view_suite


class OnlineExpectations:
    """Checks that the candidate colour's rows meet the declared expectations of every feature."""

    name = "expectations"

    def run(self, subject: Subject) -> CheckResult:
        side = subject.candidate
        tables = online_tables(
            side.client,
            side.reader,
            side.release.project,
            side.features,
            count=subject.thresholds.sample,
            now_us=subject.now_us,
        )
        found = {view.name: validate(view_suite(view), [table], at=subject.now) for view, table in tables}
        return joint_result(self.name, found, "rows that keep every declared range, set and length")


class LakeExpectations:
    """Checks that the lake's newest rows, from which the colour was filled, meet the declared expectations."""

    name = "lake expectations"

    def run(self, subject: Subject) -> CheckResult:
        thresholds, mapping = subject.thresholds, subject.candidate.release.mapping_version
        expected = (
            f"rows of the newest {thresholds.lake_days} days in the lake that keep every declared range, set and length"
        )
        found = {}
        try:
            lake = subject.lake.frozen()
            for view in subject.lake.features.views:
                rows = newest_batches(
                    lake,
                    feature_dataset(view, mapping),
                    days=thresholds.lake_days,
                    rows=thresholds.lake_rows,
                )
                found[view.name] = validate(view_suite(view), rows, at=subject.now)
        except CorruptData as error:
            return CheckResult(name=self.name, passed=False, found=str(error), expected=expected)
        return joint_result(self.name, found, expected)


def joint_result(name: str, found: dict[str, ValidationResult], expected: str) -> CheckResult:
    """Return one result for several views. Views without rows are named; if no view has rows, the check fails."""
    rows = sum(outcome.rows for outcome in found.values())
    empty = [view for view, outcome in found.items() if not outcome.rows]
    red = [
        f"{view} {failure.sentence()}"
        for view, outcome in found.items()
        if outcome.rows
        for failure in outcome.failures()
    ]
    said = f"{len(red)} expectations broken in {rows} rows" + (f" (no rows: {', '.join(empty)})" if empty else "")
    return CheckResult(
        name=name,
        passed=not red and rows > 0,
        found=said if rows else "no rows at all",
        expected=expected,
        numbers={view: float(outcome.rows) for view, outcome in found.items()},
        examples=tuple(red[:10]),
    )


class ServedParity:
    """Checks that the values which the live release has served equal those recomputed from the lake's events.

    The same stream and definitions feed the candidate, so a difference there would occur here too. The stream writes online first, so
    rows that the lake does not have yet are looked for again, as in the other checks.
    """

    name = "served parity"

    def run(self, subject: Subject) -> CheckResult:
        thresholds = subject.thresholds
        expected = (
            f"at most {thresholds.served_unexplained} unexplained differences, and {thresholds.served_stale_share:.0%} of rows "
            f"over {thresholds.served_lag_seconds:g} s behind what had arrived"
        )
        if subject.live is None:
            found = "nothing to compare: nothing is live"
            return CheckResult(name=self.name, passed=not thresholds.served_least, found=found, expected=expected)
        report = self._settled(subject, subject.live.release.id)
        if report.predictions < max(1, thresholds.served_least):
            found = (
                f"nothing to compare: {report.predictions or 'no'} predictions of {subject.live.release.id} in the served "
                "log since yesterday"
            )
            return CheckResult(name=self.name, passed=not thresholds.served_least, found=found, expected=expected)
        stale = report.stale / report.rows if report.rows else 0.0
        different = [feature for feature in report.features if feature.equal < feature.compared]
        examples = [f"{one.feature} {example}" for one in different for example in one.examples[:2]]
        return CheckResult(
            name=self.name,
            passed=report.unexplained <= thresholds.served_unexplained and stale <= thresholds.served_stale_share,
            found=f"{report.unexplained} unexplained differences and {stale:.1%} of rows too far behind in "
            f"{report.predictions} predictions of {report.users} users by {subject.live.release.id}",
            expected=expected,
            numbers={one.feature: float(one.compared - one.equal) for one in different},
            examples=(*examples[:10], *(report.stale_examples if stale > thresholds.served_stale_share else ())),
        )

    def _settled(self, subject: Subject, live: str) -> ParityReport:
        thresholds = subject.thresholds
        for left in reversed(range(thresholds.digest_reads)):
            report = check_parity(
                subject.lake.frozen(),
                at=subject.now,
                history=AppHistory(subject.app, _encoder()),
                first=(subject.now - timedelta(days=1)).date(),
                release=live,
                sample=thresholds.served_sample,
                limits=StalenessLimits(streamed=timedelta(seconds=thresholds.served_lag_seconds)),
            )
            if report.unexplained <= thresholds.served_unexplained or not left:
                break
            time.sleep(thresholds.digest_pause_seconds)
        return report


@cache
def _encoder() -> Encoder:
    return RememberingEncoder(WordLlamaEncoder())


CHECKS: tuple[Check, ...] = (OnlineExpectations(), LakeExpectations(), ServedParity())
