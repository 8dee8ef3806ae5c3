"""Gate check: the colour's daily rows are recent."""

from dataclasses import replace

from release.checks.sampling import expected_rows
from release.gate import CheckResult, Subject


class Freshness:
    name = "freshness"

    def run(self, subject: Subject) -> CheckResult:
        """Read the newest online row among sampled entities of each daily view. Streamed views are covered by the parity check."""
        subject = replace(subject, lake=subject.lake.frozen())
        limit = subject.thresholds.daily_age_hours
        ages: dict[str, float | None] = {}
        for view in subject.lake.features.daily:
            rows = expected_rows(subject, view)
            if not len(rows):
                ages[view.name] = None
                continue
            read = subject.candidate.reader.read([view.name], rows.asked(), now_us=subject.now_us)
            newest = int(read.event_us(view.name).max())
            ages[view.name] = (subject.now_us - newest) / 3.6e9 if newest > -(2**63) else None
        old = [f"{name} {'nothing online' if age is None else f'{age:.0f} h'}" for name, age in ages.items()
               if age is None or age > limit]  # fmt: skip
        return CheckResult(
            name=self.name,
            passed=not old,
            found=", ".join(old) or "every daily view is recent",
            expected=f"newest row under {limit:.0f} h old (run `stillpoint daily`)",
            numbers=ages,
        )
