"""What does this room ask of a release before it may go live?

`CHECKS` is what the release gate takes from here.
"""

from release.gate import Check, CheckResult, Subject
from validation.expectations import validate
from validation.online import online_tables
from validation.suites import view_suite


class Expectations:
    """Do the candidate colour's own rows meet what is declared of every feature?"""

    name = "expectations"

    def run(self, subject: Subject) -> CheckResult:
        side, rows, red = subject.candidate, {}, []
        tables = online_tables(
            side.client, side.reader, side.release.project, count=subject.thresholds.sample, now_us=subject.now_us
        )
        for view, table in tables:
            rows[view.name] = float(table.num_rows)
            if table.num_rows:
                found = validate(view_suite(view), [table], at=subject.now)
                red += [f"{view.name} {finding.sentence()}" for finding in found.failures()]
        empty = not any(rows.values())
        return CheckResult(
            name=self.name,
            passed=not red and not empty,
            found="no rows at all" if empty else f"{len(red)} expectations broken in {sum(rows.values()):.0f} rows",
            expected="rows that keep every declared range, set and length",
            numbers=dict(rows),
            examples=tuple(red[:10]),
        )


CHECKS: tuple[Check, ...] = (Expectations(),)
