"""Are the event types well declared? Names, fields that can be stored, constraints that agree between types."""

import re
from collections.abc import Iterator, Sequence

from stillpoint.app.checks.fault import Fault
from stillpoint.app.events import ENVELOPE, Event
from stillpoint.app.fields import FieldInfo, fields_of

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}\Z")
RESERVED = frozenset({"type", "arrived_at", "verdict", "shard", "sequence", "created_timestamp"})


def event_faults(events: Sequence[type[Event]]) -> Iterator[Fault]:
    """Yield the faults of an app's event types."""
    named: dict[str, type[Event]] = {}
    columns: dict[str, tuple[type[Event], FieldInfo]] = {}
    for event in events:
        name = event.type_name
        if not NAME.match(name):
            yield Fault(event.place, f"event type {name!r} is no name; expected small letters, digits and _")
        if name in named:
            yield Fault(event.place, f"event type {name} is declared twice, first at {named[name].place}")
        named.setdefault(name, event)
        if event.family.lateness_us is not None and event.family.lateness_us < 0:
            yield Fault(event.place, f"family {event.family.name} allows a negative lateness; expected 0 or more")
        fields = fields_of(event)
        for field in (one for one in fields.values() if one.name not in ENVELOPE):
            yield from _field_faults(event, field, columns)
        for one in event.any_of:
            if one not in fields or not fields[one].optional:
                yield Fault(event.place, f"event type {name}: any_of names {one!r}, which is no optional field of it")


def _field_faults(
    event: type[Event], field: FieldInfo, columns: dict[str, tuple[type[Event], FieldInfo]]
) -> Iterator[Fault]:
    where = f"field {event.type_name}.{field.name}"
    if field.kind is None:
        yield Fault(event.place, f"{where} cannot be stored; expected text, an integer, a number, a flag or texts")
        return
    if not NAME.match(field.name) or field.name in RESERVED:
        yield Fault(
            event.place, f"{where} cannot be a column; expected small letters, digits and _, and no reserved name"
        )
    known = columns.setdefault(field.name, (event, field))
    if known[1].kind is not field.kind:
        yield Fault(
            event.place,
            f"{where} is {field.kind}, and {known[0].type_name}.{field.name} is {known[1].kind}; "
            "one column cannot hold both",
        )
