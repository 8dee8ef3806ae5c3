"""The messages and records that travel between processes, in their exact forms.

The prediction request (stream → worker), the push (worker → push consumer), the stored recommendation (worker → service)
and the served record (service → lake). Each is versioned JSON; a wrong version or field is refused at the door. A later version
is no fault of a message: while a new release of the program is rolled out, it waits for a process that knows it.
"""

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeGuard

from pydantic import AwareDatetime, BaseModel, ConfigDict, StrictInt, StringConstraints

from stillpoint.events.types import EventType

NEWEST_VERSION: Final = 1
LONGEST_USER_ID = 64
USER_ID_PATTERN = rf"^[A-Za-z0-9_-]{{1,{LONGEST_USER_ID}}}$"
USER_ID_FORM = f"1 to {LONGEST_USER_ID} letters, digits, `_` or `-`"
UserId = Annotated[str, StringConstraints(pattern=USER_ID_PATTERN)]

_USER_ID = re.compile(USER_ID_PATTERN.removeprefix("^").removesuffix("$"))


def is_user_id(value: object) -> TypeGuard[str]:
    """Return whether something is a user id as an event may carry it; every door asks here."""
    return type(value) is str and _USER_ID.fullmatch(value) is not None


class Kind(StrEnum):
    """A kind of recommendation; the release's routing table names the model of each."""

    TODAY = "today"
    SLEEP = "sleep"
    NEXT = "next"


PULL_KINDS = (Kind.TODAY, Kind.SLEEP)


class Channel(StrEnum):
    PUSH = "push"
    MODAL = "modal"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)

    def to_bytes(self) -> bytes:
        """Return the message as compact JSON in field order."""
        return self.model_dump_json().encode()


class PredictionRequest(_Message):
    """One prediction to make. `request_id` follows from event and kind, so a replay asks for the same one."""

    schema_version: Literal[1] = 1
    request_id: str
    user_id: UserId
    kind: Kind
    event_id: str
    event_type: EventType
    event_timestamp: AwareDatetime
    arrived_at: AwareDatetime
    enqueued_at: AwareDatetime


class Push(_Message):
    """One message to a user's device. Delivered at least once; `push_id` identifies copies."""

    schema_version: Literal[1] = 1
    push_id: str
    user_id: UserId
    channel: Channel
    content_id: str
    reason: str
    recommendation_id: str
    release: str
    created_at: AwareDatetime
    expires_at: AwareDatetime


class Item(_Message):
    content_id: str
    title: str
    category: str
    score: float


class StoredRecommendation(_Message):
    """A recommendation as it lies in Redis under user, kind and release; (event_timestamp, request_id) orders them."""

    schema_version: Literal[1] = 1
    recommendation_id: str
    request_id: str
    user_id: UserId
    kind: Kind
    release: str
    generation: int
    mapping_version: int
    event_timestamp: AwareDatetime
    created_at: AwareDatetime
    trigger: EventType | None
    items: tuple[Item, ...]


def later_version(data: str | bytes) -> tuple[int, datetime] | None:
    """Return version and `enqueued_at` of a request that was written by a later program than this one; otherwise None.

    Every later version keeps these two fields, so that an older program can tell what it must leave to others, and since when.
    """
    try:
        envelope = _Envelope.model_validate_json(data)
    except ValueError:
        return None
    return (envelope.schema_version, envelope.enqueued_at) if envelope.schema_version > NEWEST_VERSION else None


class _Envelope(BaseModel):
    """What every version of a request holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: StrictInt
    enqueued_at: AwareDatetime


def request_id(event_id: str, kind: Kind) -> str:
    """Return the id of the request that an event makes for a kind; the same for every delivery and replay."""
    return hashlib.sha256(f"{event_id.lower()}\x00{kind}".encode()).hexdigest()[:32]
