"""Does a filter look at fields that every event it is applied to has, and at values that they can have?"""

from collections.abc import Iterator, Sequence

from stillpoint.app.conditions import Both, Comparison, Condition, Either, Not, OneOf
from stillpoint.app.events import Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.dtypes import Kind

_TYPES: dict[Kind, tuple[type, ...]] = {
    Kind.TEXT: (str,),
    Kind.INTEGER: (int,),
    Kind.NUMBER: (int, float),
    Kind.FLAG: (bool,),
}


def condition_faults(condition: Condition, events: Sequence[type[Event]]) -> Iterator[str]:
    """Yield what is wrong with a condition over events."""
    for field in condition.fields():
        for event in events:
            if field.name not in fields_of(event):
                yield f"the filter looks at {field}, and event type {event.type_name} has no field {field.name}"
    for comparison in _leaves(condition):
        values = comparison.values if isinstance(comparison, OneOf) else (comparison.value,)
        for event in events:
            info = fields_of(event).get(comparison.field.name)
            yield from (
                f"the filter compares {event.type_name}.{info.name} with {value!r}, which it can never be"
                for value in values
                if info is not None and not _possible(info, value)
            )


def _leaves(condition: Condition) -> Iterator[Comparison | OneOf]:
    if isinstance(condition, Both | Either):
        yield from _leaves(condition.left)
        yield from _leaves(condition.right)
    elif isinstance(condition, Not):
        yield from _leaves(condition.condition)
    elif isinstance(condition, Comparison | OneOf):
        yield condition


def _possible(info: FieldInfo, value: object) -> bool:
    if info.kind is None or info.kind not in _TYPES:
        return False
    if not isinstance(value, _TYPES[info.kind]) or (isinstance(value, bool) and info.kind is not Kind.FLAG):
        return False
    return info.values is None or str(value) in info.values
