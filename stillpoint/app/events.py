"""An event type is a class: its annotations are the fields, and `Meta` constrains them.

>>> class Search(Event):
...     query: Annotated[str, Meta(min_length=1, max_length=200)]
>>> Search.type_name, str(Search.query > "a")
('search', "query > 'a'")

On the class a field is a `Field`, from which conditions and aggregations are made; on an instance it is the value. A
class from which others derive is no type of its own: it stands for all of them.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from stillpoint.app.conditions import Field
from stillpoint.app.durations import micros, minutes
from stillpoint.app.place import Place, here

EVENT_ID_PATTERN = r"^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z"
USER_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}\Z"
TIMESTAMP_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-5][0-9])\Z"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Event types that are late only with regard to each other, and by how much one may lag behind the newest.

    Without an allowed lateness only an event's age at its arrival makes it late.
    """

    name: str
    allowed_lateness: timedelta | None = minutes(10)

    @property
    def lateness_us(self) -> int | None:
        return None if self.allowed_lateness is None else micros(self.allowed_lateness)


TAPS = Family(name="taps")
"""The family of event types that name no other: delivered at once."""


class _Declared(NamedTuple):
    family: Family
    lake_only: bool
    any_of: tuple[str, ...]
    place: Place


def snake(name: str) -> str:
    """Return a class's name as an event's type.

    >>> snake("PageOpened")
    'page_opened'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class EventMeta(msgspec.StructMeta):
    """Makes fields of the class `Field`s, while those of an instance stay plain slots.

    A class may say its `family`, that it is `lake_only` (stored, and used by no feature), its `type_name` where that is
    not its own name in snake case, and `any_of` which optional fields at least one must be there.
    """

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        family: Family | None = None,
        lake_only: bool | None = None,
        type_name: str | None = None,
        any_of: tuple[str, ...] = (),
    ) -> "EventMeta":
        known: _Declared | None = next((base._declared for base in bases if isinstance(base, EventMeta)), None)
        namespace["_declared"] = _Declared(
            family or (known.family if known else TAPS),
            lake_only if lake_only is not None else known is not None and known.lake_only,
            any_of,
            here(),
        )
        tag = type_name or snake(name)
        made: EventMeta = super().__new__(
            mcls,
            name,
            bases,
            namespace,
            frozen=True,
            kw_only=True,
            tag_field="type",
            tag=tag,
            forbid_unknown_fields=True,
        )
        return made

    def __getattribute__(cls, name: str) -> Any:
        found = super().__getattribute__
        if not name.startswith("_") and name in found("__struct_fields__"):
            return Field(cls, name)
        return found(name)

    @property
    def type_name(cls) -> str:
        """The event's `type` in its payload."""
        return str(cls.__struct_config__.tag)

    @property
    def family(cls) -> Family:
        """The types with regard to which an event is late."""
        return cls._told().family

    @property
    def lake_only(cls) -> bool:
        """Whether the type is stored and no feature may use it."""
        return cls._told().lake_only

    @property
    def any_of(cls) -> tuple[str, ...]:
        """Optional fields of which an event must carry at least one."""
        return cls._told().any_of

    @property
    def place(cls) -> Place:
        """Where the type is declared."""
        return cls._told().place

    @property
    def leaves(cls) -> "tuple[type[Event], ...]":
        """The types that this class stands for: itself, or all that derive from it."""
        below: list[Any] = cls.__subclasses__()
        return tuple(leaf for one in below for leaf in one.leaves) if below else (cls,)  # type: ignore[return-value]

    def _told(cls) -> _Declared:
        told: _Declared = cls._declared
        return told


class Event(msgspec.Struct, metaclass=EventMeta):
    """What every event carries. `event_timestamp` is RFC 3339 with an offset and at most microseconds."""

    schema_version: Literal[1]
    event_id: Annotated[str, Meta(pattern=EVENT_ID_PATTERN)]
    user_id: Annotated[str, Meta(pattern=USER_ID_PATTERN)]
    event_timestamp: Annotated[str, Meta(pattern=TIMESTAMP_PATTERN)]
    platform: Literal["ios", "android", "web"]


ENVELOPE = ("schema_version", "event_id", "user_id", "event_timestamp", "platform")
"""The fields of every event; `type` stands beside them in the payload."""


class Arrival(NamedTuple):
    """An event with its times in microseconds since 1970 UTC, and its id as 16 bytes, which sort as the text does."""

    event: Event
    event_us: int
    arrived_us: int
    key: bytes

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return type(self.event).type_name

    @property
    def event_id(self) -> str:
        return self.event.event_id

    @property
    def user_id(self) -> str:
        return self.event.user_id
