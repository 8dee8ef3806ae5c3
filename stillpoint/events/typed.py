"""An event of the stream becomes an instance of the class by which an app declares its type."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from stillpoint.app.events import ENVELOPE, Arrival, Event
from stillpoint.app.fields import fields_of
from stillpoint.errors import InvalidInput
from stillpoint.events.parsing import FIELDS_OF, AppEvent
from stillpoint.events.types import EventType

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Made(NamedTuple):
    """How an event of one type is made: its class, and which values it takes in which order."""

    event: type[Event]
    names: tuple[str, ...]
    values: Callable[[AppEvent], tuple[Any, ...]]


class TypedEvents:
    """The event types of an app, by the names that they have in the stream."""

    def __init__(self, app: str, events: Iterable[type[Event]]) -> None:
        """`app` names it in refusals.

        Raises:
            InvalidInput: the app's types or fields are not those that the stream reads.
        """
        declared = {event.type_name: event for event in events}
        if declared.keys() != {str(kind) for kind in EventType}:
            raise InvalidInput(_other_types(app, declared))
        self._made = {kind: _made(app, kind, declared[str(kind)]) for kind in EventType}

    def arrival(self, event: AppEvent) -> Arrival:
        """Return the event as its class, with its times and the 16 bytes of its id."""
        made, names, values = self._made[event.type]
        moment = (_EPOCH + timedelta(microseconds=event.event_us)).isoformat()
        fields = dict(zip(names, values(event), strict=True))
        one = made(schema_version=1, event_id=event.event_id, event_timestamp=moment, **fields)
        return Arrival(one, event.event_us, event.arrived_us, bytes.fromhex(event.event_id.replace("-", "")))


def _made(app: str, kind: EventType, event: type[Event]) -> _Made:
    names = tuple(name for name in fields_of(event) if name not in ENVELOPE)
    required, optional = FIELDS_OF[kind]
    if unread := [name for name in names if name not in required + optional]:
        known = ", ".join(required + optional) or "no field of its own"
        raise InvalidInput(f"app {app}: the stream reads no {', '.join(unread)} of {kind}; it reads {known}")
    taken = ("user_id", "platform", *names)
    return _Made(event, taken, attrgetter(*taken))


def _other_types(app: str, declared: Iterable[str]) -> str:
    known = {str(kind) for kind in EventType}
    unread = ", ".join(sorted(set(declared) - known)) or "none"
    absent = ", ".join(sorted(known - set(declared))) or "none"
    return f"app {app} must declare the event types that the stream reads: unknown to it are {unread}; missing are {absent}"
