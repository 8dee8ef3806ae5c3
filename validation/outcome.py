"""Validation results, in a form that readers, gates and files share."""

from collections.abc import Iterable
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Result):
    """One expectation with its result: `unexpected` of `checked` rows break it."""

    check: str
    column: str | None = None
    expected: str
    passed: bool
    checked: int = Field(ge=0)
    unexpected: int = Field(ge=0)
    examples: tuple[str, ...] = ()
    note: str | None = None

    def sentence(self) -> str:
        """Return the finding as one line: where, found, expected."""
        where = f"{self.column}: " if self.column else ""
        examples = f", for example {', '.join(self.examples[:3])}" if self.examples and not self.passed else ""
        found = f"{self.unexpected} of {self.checked} rows break it{examples}" if not self.passed else "holds"
        return f"{where}expected {self.expected}; {self.note or found}"


class ValidationResult(_Result):
    """The result of validating one dataset. Zero rows are no pass."""

    subject: str
    at: AwareDatetime
    rows: int = Field(ge=0)
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    def failures(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.passed)


def outcome(subject: str, at: datetime, rows: int, findings: Iterable[Finding]) -> ValidationResult:
    """Return an outcome; with no rows it holds one failed finding that says so."""
    found = tuple(findings)
    if rows == 0:
        found = (
            Finding(
                check="rows", expected="at least one row", passed=False, checked=0, unexpected=0, note="found none"
            ),
        )
    return ValidationResult(subject=subject, at=at, rows=rows, findings=found)
