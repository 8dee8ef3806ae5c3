"""Gate check: every canary resolves to the right user, and the mapping fits the models."""

from release.gate import CheckResult, Subject
from stillpoint.releases.canaries import canary_faults, read_canaries


class Mapping:
    name = "canaries"

    def run(self, subject: Subject) -> CheckResult:
        """Read the canaries' sequence ids and mapping versions from the colour."""
        release = subject.candidate.release
        canaries = read_canaries(subject.lake.objects, release.id)
        ids = [canary.user_id for canary in canaries]
        read = subject.candidate.reader.read(["user_sequence"], {"user_id": ids}, now_us=subject.now_us)
        sequence_ids, versions = read.values("sequence_id"), read.values("mapping_version")
        wrong = [fault.text for fault in canary_faults(canaries, sequence_ids, versions, release.mapping_version)]
        mappings = {bundle.manifest.mapping_version for bundle in subject.candidate.models.values()}
        if mappings != {release.mapping_version}:
            wrong.append(f"models of mapping {sorted(mappings)}")
        return CheckResult(
            name=self.name,
            passed=not wrong and bool(canaries),
            found=f"{len(wrong)} of {len(canaries)} wrong" + (f", {wrong[0]}" if wrong else ""),
            expected=f"each of the canary users with their own sequence id of mapping {release.mapping_version}",
            examples=tuple(wrong[:10]),
        )
