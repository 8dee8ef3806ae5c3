"""A condition says which events count, as data: it can be checked, digested and shown, and compiled to a predicate.

`Field` stands for a field of an event type, as in `ContentStart.category == "sleep"`.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

Predicate: TypeAlias = Callable[[Any], bool]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Condition:
    """Something that is true or false of an event. Combine conditions with `&`, `|` and `~`."""

    def __and__(self, other: "Condition") -> "Condition":
        return Both(self, other)

    def __or__(self, other: "Condition") -> "Condition":
        return Either(self, other)

    def __invert__(self) -> "Condition":
        return Not(self)

    def __bool__(self) -> bool:
        raise TypeError("a condition has no truth of its own; join conditions with & and |, not with `and` and `or`")

    def fields(self) -> "tuple[Field, ...]":
        """Return the fields that are looked at."""
        raise NotImplementedError

    def compiled(self) -> Predicate:
        """Return the condition as a function of an event."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Field:
    """A field of an event type. Comparing it gives a `Condition`."""

    event: type
    name: str

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Comparison(self, "==", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Comparison(self, "!=", value)

    def __lt__(self, value: object) -> Condition:
        return Comparison(self, "<", value)

    def __le__(self, value: object) -> Condition:
        return Comparison(self, "<=", value)

    def __gt__(self, value: object) -> Condition:
        return Comparison(self, ">", value)

    def __ge__(self, value: object) -> Condition:
        return Comparison(self, ">=", value)

    def __hash__(self) -> int:
        return hash((self.event, self.name))

    def __str__(self) -> str:
        return f"{self.event.__name__}.{self.name}"


@dataclass(frozen=True, eq=False)
class Comparison(Condition):
    """A field compared with a value. An event that lacks the field fails it, whatever the comparison."""

    field: Field
    sign: str
    value: Any

    def fields(self) -> tuple[Field, ...]:
        return (self.field,)

    def compiled(self) -> Predicate:
        name, compare, value = self.field.name, _OPERATORS[self.sign], self.value

        def holds(event: Any) -> bool:
            found = getattr(event, name, None)
            return found is not None and compare(found, value)

        return holds

    def __str__(self) -> str:
        return f"{self.field.name} {self.sign} {self.value!r}"


@dataclass(frozen=True, eq=False)
class OneOf(Condition):
    """A field is one of some values."""

    field: Field
    values: tuple[Any, ...]

    def fields(self) -> tuple[Field, ...]:
        return (self.field,)

    def compiled(self) -> Predicate:
        name, values = self.field.name, frozenset(self.values)
        return lambda event: getattr(event, name, None) in values

    def __str__(self) -> str:
        return f"{self.field.name} is one of {', '.join(map(repr, self.values))}"


@dataclass(frozen=True, eq=False)
class Present(Condition):
    """A field has a value."""

    field: Field

    def fields(self) -> tuple[Field, ...]:
        return (self.field,)

    def compiled(self) -> Predicate:
        name = self.field.name
        return lambda event: getattr(event, name, None) is not None

    def __str__(self) -> str:
        return f"{self.field.name} is present"


@dataclass(frozen=True, eq=False)
class Both(Condition):
    """Two conditions hold."""

    left: Condition
    right: Condition

    def fields(self) -> tuple[Field, ...]:
        return self.left.fields() + self.right.fields()

    def compiled(self) -> Predicate:
        left, right = self.left.compiled(), self.right.compiled()
        return lambda event: left(event) and right(event)

    def __str__(self) -> str:
        return f"({self.left} and {self.right})"


@dataclass(frozen=True, eq=False)
class Either(Condition):
    """At least one of two conditions holds."""

    left: Condition
    right: Condition

    def fields(self) -> tuple[Field, ...]:
        return self.left.fields() + self.right.fields()

    def compiled(self) -> Predicate:
        left, right = self.left.compiled(), self.right.compiled()
        return lambda event: left(event) or right(event)

    def __str__(self) -> str:
        return f"({self.left} or {self.right})"


@dataclass(frozen=True, eq=False)
class Not(Condition):
    """A condition does not hold."""

    condition: Condition

    def fields(self) -> tuple[Field, ...]:
        return self.condition.fields()

    def compiled(self) -> Predicate:
        holds = self.condition.compiled()
        return lambda event: not holds(event)

    def __str__(self) -> str:
        return f"not {self.condition}"


def one_of(field: object, *values: object) -> Condition:
    """Return the condition that a field is one of `values`."""
    return OneOf(_field(field), values)


def present(field: object) -> Condition:
    """Return the condition that an optional field has a value."""
    return Present(_field(field))


def _field(field: object) -> Field:
    if not isinstance(field, Field):
        raise TypeError(f"{field!r} is no field of an event type; expected one such as Search.query")
    return field
