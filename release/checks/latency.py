"""Gate check: reading one user's features is fast."""

import time

from release.gate import CheckResult, Subject
from stillpoint.releases.canaries import read_canaries


class Latency:
    name = "latency"

    def run(self, subject: Subject) -> CheckResult:
        """Read one user after another through the plan, as serving does."""
        side, thresholds = subject.candidate, subject.thresholds
        reader = side.reader
        users = [canary.user_id for canary in read_canaries(subject.lake.objects, side.release.id)] or ["nobody"]
        views = [layout.name for layout in side.plan.views if layout.join_keys[0].name == "user_id"]
        took = []
        for number in range(thresholds.latency_reads + 10):
            began = time.perf_counter()
            reader.read(views, {"user_id": [users[number % len(users)]]}, now_us=subject.now_us).to_dicts()
            took.append((time.perf_counter() - began) * 1000)
        took = sorted(took[10:])
        p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
        return CheckResult(
            name=self.name,
            passed=p99 <= thresholds.latency_p99_ms,
            found=f"p50 {p50:.2f} ms, p99 {p99:.2f} ms",
            expected=f"p99 of at most {thresholds.latency_p99_ms:.0f} ms",
            numbers={"p50_ms": p50, "p99_ms": p99},
            series={"milliseconds": took},
        )
