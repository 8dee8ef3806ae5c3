"""Gate check: the colour is marked as filled, with the mapping of the release."""

from release import colour
from release.gate import CheckResult, Subject


class FillMarkerCheck:
    """Compares the colour's fill marker with the release's record."""

    name = "sentinel"

    def run(self, subject: Subject) -> CheckResult:
        """Read the fill marker, without which serving uses no model."""
        release = subject.candidate.release
        found = colour.fill_marker(subject.candidate.client, release.project)
        return CheckResult(
            name=self.name,
            passed=found.fill_complete and found.mapping_version == release.mapping_version,
            found=f"mapping {found.mapping_version}, fill {'complete' if found.fill_complete else 'not complete'}",
            expected=f"mapping {release.mapping_version}, fill complete",
        )
