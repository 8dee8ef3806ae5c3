"""The JSON Schema of an app's events, one variant per type, for an OpenAPI description. (pure)"""

from collections.abc import Sequence
from typing import Any

from stillpoint.app.events import ENVELOPE, Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.dtypes import Kind
from stillpoint.events.types import SCHEMA_VERSION

Schema = dict[str, Any]
_LETTERS = {"printable": "Printable, not blank.", "visible": "Not blank: something of it can be seen."}


def event_schema(events: Sequence[type[Event]]) -> Schema:
    """Return the schema of the events of version 1. Other fields are dropped and counted."""
    return {"oneOf": [_variant(event) for event in events]}


def _variant(event: type[Event]) -> Schema:
    fields = fields_of(event)
    own = [field for name, field in fields.items() if name not in ENVELOPE]
    required = [field.name for field in own if not field.optional]
    form: Schema = {
        "title": event.type_name,
        "type": "object",
        "required": ["schema_version", "type", "event_id", "user_id", "event_timestamp", "platform", *required],
        "properties": {
            "schema_version": {"const": SCHEMA_VERSION, "type": "integer"},
            "type": {"const": event.type_name, "type": "string"},
            "event_id": {"type": "string", "format": "uuid"},
            "user_id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "event_timestamp": {
                "type": "string",
                "format": "date-time",
                "description": "With an offset, at most microseconds, at most 60 s ahead of the service's clock.",
            },
            **{field.name: field_schema(field) for field in (fields["platform"], *own)},
        },
    }
    if event.any_of:
        form["anyOf"] = [{"required": [name]} for name in event.any_of]
    return form


def field_schema(field: FieldInfo) -> Schema:
    """Return the schema of one field."""
    low, high = field.minimum, field.maximum
    if field.values is not None:
        return {"type": "string", "enum": list(field.values)}
    match field.kind:
        case Kind.TEXT:
            told = {"pattern": field.pattern, "description": _LETTERS.get(field.letters or "")}
            return {"type": "string", **_given(minLength=low, maxLength=high, **told)}
        case Kind.TEXTS:
            item = {} if field.item is None else {"items": field_schema(field.item)}
            return {"type": "array", **_given(minItems=low, maxItems=high), **item}
        case Kind.FLAG:
            return {"type": "boolean"}
    number = "integer" if field.kind is Kind.INTEGER else "number"
    return {"type": number, **_given(minimum=low, maximum=high)}


def _given(**bounds: Any) -> Schema:
    return {name: value for name, value in bounds.items() if value is not None}
