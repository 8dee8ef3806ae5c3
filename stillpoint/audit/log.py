"""Appends to the audit log, and verifies it.

The log is one chain of create-only objects `audit/<sequence>.json` in the lake. Each entry holds the SHA-256 of the entry
before it, so that a changed, missing or inserted entry breaks the chain (Haber and Stornetta, "How to time-stamp a digital
document", 1991). What a chain alone cannot show is that its newest entries were cut off: keep the head that
`stillpoint audit verify` prints somewhere else, and give it to a later verification. On S3, Object Lock keeps the objects
themselves.

A user stands in the log as the HMAC by which tombstones name them, so that the log outlives an erasure without naming anybody.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from stillpoint.audit.head import Head
from stillpoint.clock import Clock
from stillpoint.errors import AlreadyExists, CorruptData, ObjectMissing
from stillpoint.lake.objects import Objects

PREFIX = "audit/"
DIGITS = 12
NOTHING = "0" * 64
"""What the first entry holds as the digest of the entry before it."""


class AuditAction(StrEnum):
    """What was done. An entry is written before the action begins."""

    SWITCH = "switch"
    ROLL_BACK = "roll back"
    RETIRE = "retire"
    EXPORT = "export"
    ERASE = "erase"
    READ = "read"
    """Somebody looked at one user's features, or at the explanation of one recommendation."""


class AuditEntry(BaseModel):
    """One entry. `previous` is the SHA-256 of the entry before; `user` is an HMAC, None where no user is concerned."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int = Field(ge=1)
    previous: str = Field(pattern=r"^[0-9a-f]{64}$")
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    at: AwareDatetime
    by: str
    action: AuditAction
    user: str | None = None
    details: dict[str, str] = {}

    def to_bytes(self) -> bytes:
        """Return the entry as it is stored: JSON with sorted keys."""
        return (json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False) + "\n").encode()


EMPTY = Head(0, NOTHING)


class AuditLog:
    """The audit log of a lake. Several processes may append at the same time: the create-only key decides who is first."""

    def __init__(self, objects: Objects, clock: Clock) -> None:
        self._objects = objects
        self._clock = clock
        self._head = EMPTY

    def append(
        self, action: AuditAction, *, by: str, user: str | None = None, details: Mapping[str, str] | None = None
    ) -> AuditEntry:
        """Append one entry and return it; it is stored when this returns. `user` is a user's HMAC.

        Raises:
            StackUnavailable: the lake does not answer; nobody knows then whether the entry is stored, and the caller must
                not go on with what it wanted to have noted.
        """
        unique = uuid.uuid4().hex
        while True:
            head = self._find_head()
            entry = AuditEntry(
                sequence=head.sequence + 1,
                previous=head.sha256,
                id=unique,
                at=self._clock(),
                by=by,
                action=action,
                user=user,
                details=dict(details or {}),
            )
            data = entry.to_bytes()
            try:
                self._objects.create(entry_key(entry.sequence), data)
            except AlreadyExists:
                if self._objects.get(entry_key(entry.sequence)) != data:  # it is not ours, whose answer was lost
                    continue
            self._head = Head(entry.sequence, _digest(data))
            return entry

    def _find_head(self) -> Head:
        """Return the newest entry's place: gallop from the last known one, then halve. Entries are numbered without gaps."""
        low = self._head
        data, step = self._at(low.sequence + 1), 1
        while data is not None:
            low = Head(low.sequence + step, _digest(data))
            step *= 2
            data = self._at(low.sequence + step)
        high = low.sequence + step
        while high - low.sequence > 1:
            middle = (low.sequence + high) // 2
            data = self._at(middle)
            if data is None:
                high = middle
            else:
                low = Head(middle, _digest(data))
        self._head = low
        return low

    def _at(self, sequence: int) -> bytes | None:
        try:
            return self._objects.get(entry_key(sequence))
        except ObjectMissing:
            return None


def entry_key(sequence: int) -> str:
    """Return the key of an entry.

    >>> entry_key(7)
    'audit/000000000007.json'
    """
    return f"{PREFIX}{sequence:0{DIGITS}d}.json"


def entries(objects: Objects) -> Iterator[AuditEntry]:
    """Yield the entries in order.

    Raises:
        CorruptData: an object below `audit/` is no entry.
    """
    for key in objects.list(PREFIX):
        yield _read(key, objects.get(key))


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found: how many entries, the head, and each break of the chain in words."""

    entries: int
    head: Head
    problems: tuple[str, ...]


def verify(objects: Objects, *, known: Head | None = None) -> Verification:
    """Read the whole log and check every link; with a head that was kept elsewhere, also that it is still part of the chain."""
    head, count, problems = EMPTY, 0, list[str]()
    last: datetime | None = None
    kept = known is None or known == EMPTY
    for key in objects.list(PREFIX):
        data = objects.get(key)
        count += 1
        try:
            entry = _read(key, data)
        except CorruptData as error:
            problems.append(str(error))
            head = Head(head.sequence + 1, _digest(data))
            continue
        if entry.sequence != head.sequence + 1:
            problems.append(f"{key} follows entry {head.sequence}: entries between them are missing")
        elif entry.previous != head.sha256:
            problems.append(
                f"{key} does not follow from entry {head.sequence} as it is now: one of the two was changed"
            )
        if last is not None and entry.at < last:
            problems.append(f"{key} says {entry.at.isoformat()}, before the entry ahead of it: a clock went back")
        head, last = Head(entry.sequence, _digest(data)), entry.at
        kept = kept or head == known
    if not kept:
        problems.append(f"the known head {known} is not part of the log: its end was cut off, or it was written anew")
    return Verification(count, head, tuple(problems))


def _read(key: str, data: bytes) -> AuditEntry:
    try:
        entry = AuditEntry.model_validate_json(data)
    except ValidationError as error:
        raise CorruptData(f"{key} is no entry of the audit log: {error.errors()[0]['msg']}") from None
    if key != entry_key(entry.sequence):
        raise CorruptData(f"{key} holds entry {entry.sequence}")
    return entry


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
