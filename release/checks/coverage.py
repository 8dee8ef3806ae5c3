"""Gate check: online, every view holds the entities of which the lake has rows."""

from dataclasses import replace

from release.checks.sampling import expected_rows
from release.gate import CheckResult, Subject


class Coverage:
    """Looks sampled entities of the lake up online."""

    name = "coverage"

    def run(self, subject: Subject) -> CheckResult:
        """Look up a sample of each view's entities. A view without rows in the lake expects none."""
        subject = replace(subject, lake=subject.lake.frozen())
        limit = subject.thresholds.coverage
        shares: dict[str, float | None] = {}
        missing: list[str] = []
        for view in subject.lake.features.views:
            rows = expected_rows(subject, view)
            if not len(rows):
                shares[view.name] = None
                continue
            ids = rows.frame[rows.key].to_list()
            read = subject.candidate.reader.read([view.name], rows.asked(), now_us=subject.now_us)
            held = read.event_us(view.name) > -(2**63)
            shares[view.name] = float(held.mean())
            missing += [f"{view.name} {one}" for one, there in zip(ids, held, strict=True) if not there][:3]
        low = {name: share for name, share in shares.items() if share is not None and share < limit}
        some = any(share is not None for share in shares.values())
        found = ", ".join(f"{name} {share:.1%}" for name, share in low.items()) or "every view covered"
        return CheckResult(
            name=self.name,
            passed=not low and some,
            found=found if some else "no rows in the lake at all",
            expected=f"at least {limit:.1%} of the lake's entities in every view",
            numbers=shares,
            examples=tuple(missing[:10]),
        )
