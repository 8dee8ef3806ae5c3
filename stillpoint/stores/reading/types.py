"""The types of online answers: modes, statuses, cells, and a project's fill marker."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from stillpoint.errors import CorruptData

ABSENT_US = -(2**63)
"""Stands for "no time" in integer columns of microseconds."""
ANY_TIME_US = 2**63 - 1
"""The latest time that can be stored."""


class Mode(StrEnum):
    """`COMPAT` answers as Feast does, stale values included; `ENFORCE` serves only what is present, fresh and has happened."""

    COMPAT = "compat"
    ENFORCE = "enforce"


class FieldStatus(IntEnum):
    """Whether and why a value is present; with Feast's numbers. `OUTSIDE_MAX_AGE`: past its time-to-live, or of the future."""

    PRESENT = 1
    NULL_VALUE = 2
    NOT_FOUND = 3
    OUTSIDE_MAX_AGE = 4


@dataclass(frozen=True, slots=True)
class FillMarker:
    """Which id mapping a project holds, and whether its fill is complete; None and False if it was never written."""

    mapping_version: int | None
    fill_complete: bool

    @classmethod
    def parse(cls, version: bytes | None, complete: bytes | None) -> "FillMarker":
        number = version.decode() if version else ""
        if number and not number.lstrip("-").isdigit():
            raise CorruptData(f"the sentinel's mapping_version is {number!r}; expected a whole number")
        return cls(int(number) if number else None, complete == b"1")


@dataclass(frozen=True, slots=True)
class Cell:
    """One feature of one entity; `value` is None unless the status is PRESENT (in compat mode it may be None then too)."""

    value: Any
    status: FieldStatus
    event_us: int | None
    age_seconds: float | None
