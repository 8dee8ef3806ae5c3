"""The head of an audit log: what stands for all of its entries."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry's sequence and SHA-256, written `sequence:digest`. Sequence 0 is the head of an empty log."""

    sequence: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.sequence}:{self.sha256}"
