"""One value of a payload is a declared field's, or is refused with what was found and expected. (pure)

Numbers are numbers: no booleans, no text; 12.0 is the integer 12, as in JSON Schema. A null is an absent field.
"""

import math
import re
from functools import lru_cache
from typing import Any

import msgspec

from stillpoint.app.events import EVENT_ID_PATTERN, TIMESTAMP_PATTERN, USER_ID_PATTERN
from stillpoint.app.fields import FieldInfo
from stillpoint.dtypes import Kind
from stillpoint.events.documents import json_type
from stillpoint.events.visible import is_blank

LEAST, GREATEST = -(1 << 63), (1 << 63) - 1
_WORDS = {
    EVENT_ID_PATTERN: "a UUID such as 0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b",
    USER_ID_PATTERN: "1 to 64 of A-Z a-z 0-9 _ -",
    TIMESTAMP_PATTERN: "RFC 3339 with an offset, at most microseconds",
}


class RefusedValue(Exception):
    """A value is refused; its text is the reason."""


def value_of(field: FieldInfo, value: Any) -> Any:
    """Return a value as the field holds it.

    Raises:
        RefusedValue: it is none of the field's.
    """
    if value is None:
        raise refuse(None, expected(field))
    found = _converted(field, value)
    try:
        msgspec.convert(found, field.annotation)
    except (msgspec.ValidationError, OverflowError):
        raise refuse(value, expected(field)) from None
    return found


def refuse(value: object, wanted: str) -> RefusedValue:
    """Return the refusal of a value, showing at most its first 60 characters and nothing nested."""
    if value is None:
        return RefusedValue(f"missing; expected {wanted}")
    if isinstance(value, list | dict):
        return RefusedValue(f"{json_type(value)}; expected {wanted}")
    shown = repr(value[:60]) if isinstance(value, str) else repr(value)
    return RefusedValue(f"{json_type(value)} {shown}; expected {wanted}")


def shows_its_letters(letters: str | None, text: str) -> bool:
    """Return whether a text holds what its field's `letters` allow."""
    if letters is None:
        return True
    return (text.isprintable() if letters == "printable" else "\x00" not in text) and not is_blank(text)


def _converted(field: FieldInfo, value: Any) -> Any:
    low, high = field.minimum, field.maximum
    within = (low is None or low <= _size(value)) and (high is None or _size(value) <= high)
    match field.kind:
        case Kind.TEXT if type(value) is str and within and _is_text(field, value):
            return value
        case Kind.INTEGER if (whole := _integer(value)) is not None and within:
            if LEAST <= whole <= GREATEST:
                return whole
            raise refuse(value, "a 64-bit integer")
        case Kind.NUMBER if type(value) in (int, float) and within and math.isfinite(value):
            return float(value) + 0.0
        case Kind.FLAG if type(value) is bool:
            return value
        case Kind.TEXTS if type(value) is list and within:
            assert field.item is not None
            return tuple(_item(field.item, one) for one in value)
    raise refuse(value, expected(field))


def _size(value: Any) -> float:
    """Return what a range is about: a number, or the length of a text or an array."""
    return len(value) if isinstance(value, str | list) else value if isinstance(value, int | float) else 0


def _item(field: FieldInfo, value: Any) -> str:
    if value is None:
        raise refuse(None, expected(field))
    return str(_converted(field, value))


def _is_text(field: FieldInfo, text: str) -> bool:
    if field.values is not None and text not in field.values:
        return False
    if field.pattern is not None and _pattern(field.pattern).search(text) is None:
        return False
    return shows_its_letters(field.letters, text)


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _integer(value: Any) -> int | None:
    """Return an integer in any notation: in JSON Schema, and so in OpenAPI, 12.0 and 1.2e1 are the integer 12."""
    if type(value) is float and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def expected(field: FieldInfo) -> str:
    """Return in words what a field holds."""
    if field.pattern in _WORDS:
        return _WORDS[field.pattern]
    if field.values is not None:
        return "one of " + ", ".join(field.values)
    low, high = field.minimum, field.maximum
    match field.kind:
        case Kind.TEXT:
            what = "printable characters" if field.letters == "printable" else "characters"
            seen = ", not blank" if field.letters else ""
            like = f", like {field.pattern}" if field.pattern else ""
            return f"{_number_of(low, high, what) or 'text'}{seen}{like}"
        case Kind.TEXTS:
            called = field.title or "texts"
            return f"an array of {_number_of(low, high, called) or called}"
        case Kind.INTEGER:
            return _whole(low) if low is not None and low == high else f"an integer{_span(low, high)}"
        case Kind.NUMBER:
            return f"{'a' if low is not None and high is not None else 'a finite'} number{_span(low, high)}"
        case Kind.FLAG:
            return "true or false"
    return "another value"


def _number_of(low: float | None, high: float | None, what: str) -> str:
    if high is None:
        return f"at least {_whole(low)} {what}" if low else ""
    return f"{_whole(low)} to {_whole(high)} {what}" if low else f"at most {_whole(high)} {what}"


def _span(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {_whole(low)} to {_whole(high)}"
    return (
        f" of at least {_whole(low)}" if low is not None else f" of at most {_whole(high)}" if high is not None else ""
    )


def _whole(value: float | None) -> str:
    """Return a bound as it is written: whole numbers without a point."""
    assert value is not None
    return str(int(value)) if float(value).is_integer() else f"{value:g}"
