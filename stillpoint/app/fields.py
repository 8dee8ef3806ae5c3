"""What an event type's fields hold: kind, constraints, whether they may be absent. Read from the class's annotations."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from msgspec import inspect

from stillpoint.app.events import ENVELOPE, Event
from stillpoint.app.texts import letters_of
from stillpoint.dtypes import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """One field. `values` is a closed set, `minimum` and `maximum` are the range of a number or the length of a text.

    `letters` says what its texts may hold (`stillpoint.app.texts`), `item` what each of several texts is, `title` what
    they are called. `annotation` is what the class says of it, as msgspec takes it.
    """

    name: str
    kind: Kind | None
    optional: bool
    values: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    letters: str | None = None
    item: "FieldInfo | None" = None
    title: str | None = None
    annotation: Any = None


@lru_cache(maxsize=1024)
def fields_of(event: type[Event]) -> dict[str, FieldInfo]:
    """Return the fields of an event type by name, those of the envelope first."""
    annotations = get_type_hints(event, include_extras=True)
    told: list[inspect.Field] = inspect.type_info(event).fields  # type: ignore[attr-defined]
    found = [_field(one, annotations[one.name]) for one in told]
    by_name = {one.name: one for one in found}
    own = [name for name in by_name if name not in ENVELOPE]
    return {name: by_name[name] for name in (*ENVELOPE, *own)}


def _field(one: inspect.Field, annotation: Any) -> FieldInfo:
    kind, optional = one.type, not one.required
    if isinstance(kind, inspect.UnionType):
        others = [part for part in kind.types if not isinstance(part, inspect.NoneType)]
        optional = optional or len(others) < len(kind.types)
        if len(others) != 1:
            return FieldInfo(name=one.name, kind=None, optional=optional, annotation=annotation)
        kind = others[0]
    return FieldInfo(name=one.name, optional=optional, annotation=annotation, **_described(kind, annotation))


def _described(kind: inspect.Type, annotation: Any) -> dict[str, Any]:
    match kind:
        case inspect.Metadata():
            told = {"letters": letters_of(kind.extra), "title": (kind.extra_json_schema or {}).get("title")}
            return {**_described(kind.type, annotation), **{name: one for name, one in told.items() if one is not None}}
        case inspect.StrType():
            return {"kind": Kind.TEXT, "minimum": kind.min_length, "maximum": kind.max_length, "pattern": kind.pattern}
        case inspect.LiteralType() if all(isinstance(value, str) for value in kind.values):
            return {"kind": Kind.TEXT, "values": _in_order(annotation) or tuple(map(str, kind.values))}
        case inspect.EnumType() if all(isinstance(member.value, str) for member in kind.cls):
            return {"kind": Kind.TEXT, "values": tuple(member.value for member in kind.cls)}
        case inspect.IntType():
            return {"kind": Kind.INTEGER, "minimum": _low(kind, 1), "maximum": _high(kind, 1)}
        case inspect.FloatType():
            return {"kind": Kind.NUMBER, "minimum": _low(kind, 0), "maximum": _high(kind, 0)}
        case inspect.LiteralType():
            numbers = [value for value in kind.values if isinstance(value, int)]
            return {"kind": Kind.INTEGER, "minimum": min(numbers), "maximum": max(numbers)}
        case inspect.BoolType():
            return {"kind": Kind.FLAG}
        case inspect.VarTupleType():
            item = _described(kind.item_type, Any)
            if item["kind"] is Kind.TEXT:
                one = FieldInfo(name="", optional=False, **item)
                return {"kind": Kind.TEXTS, "minimum": kind.min_length, "maximum": kind.max_length, "item": one}
    return {"kind": None}


def _in_order(annotation: Any) -> tuple[str, ...]:
    """Return the values of a `Literal` as they are written; msgspec sorts them."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((found for part in parts if (found := _in_order(part))), ())


def _low(kind: inspect.IntType | inspect.FloatType, least: int) -> float | None:
    return kind.ge if kind.ge is not None else None if kind.gt is None else kind.gt + least


def _high(kind: inspect.IntType | inspect.FloatType, least: int) -> float | None:
    return kind.le if kind.le is not None else None if kind.lt is None else kind.lt - least
