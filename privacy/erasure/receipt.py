"""The receipt of an erasure."""

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

RECEIPTS = "reports/erasures/"
REQUESTS = "erasing/"


class RemovedRows(BaseModel):
    """One place, and how much of the user was found and removed there."""

    model_config = ConfigDict(frozen=True)

    place: str
    what: str
    count: int = Field(ge=0)


class RemainingCopies(BaseModel):
    """A store that cannot be edited, and until when it may still hold something of the user; None: not known here."""

    model_config = ConfigDict(frozen=True)

    place: str
    why: str
    until: AwareDatetime | None = None


class Receipt(BaseModel):
    """What was found and removed where. It names the user by the tombstone's digest only."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1] = 1
    person: str = Field(description="HMAC-SHA256 of the user id under the erasure key.")
    erased_until: AwareDatetime = Field(description="Events that happened or arrived up to then have no effect.")
    finished_at: AwareDatetime
    found: bool
    removed: tuple[RemovedRows, ...]
    remaining: tuple[RemainingCopies, ...]
    revised_snapshots: tuple[str, ...] = Field(description="Snapshots rewritten without the user.")
    models: tuple[str, ...] = Field(description="Models trained on the user's data: retrain to replace them.")
    skipped: tuple[str, ...] = Field(description="Files that could not be read or are not ours, left as they are.")
