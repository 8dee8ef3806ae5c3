"""Durations as users write them: `10m`, `1.5h`, `P3650D`, `PT5M`, or plain seconds."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

FORMS = "seconds (90), a number with ms, s, m, h, d or w (10m, 1.5h), or ISO 8601 (P30D, PT5M)"
"""The accepted forms, for error texts."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_SHORT = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?")
_ISO = re.compile(r"P(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?")


def seconds_of(text: str) -> float:
    """Return a written duration in seconds. Months and years are refused: they have no fixed length.

    >>> [seconds_of(text) for text in ("90", "10m", "1.5h", "250ms", "P3650D", "PT1H30M")]
    [90.0, 600.0, 5400.0, 0.25, 315360000.0, 5400.0]

    Raises:
        ValueError: it is no duration; the text names the accepted forms.
    """
    given = text.strip()
    short = _SHORT.fullmatch(given)
    if short:
        return float(short[1]) * _UNITS[short[2] or "s"]
    iso = _ISO.fullmatch(given.upper())
    parts = {unit: value for unit, value in iso.groupdict().items() if value} if iso else {}
    if not parts or given.upper().endswith("T"):
        raise ValueError(f"{text!r} is no duration; expected {FORMS}")
    return sum(float(value) * _UNITS[unit] for unit, value in parts.items())


def format_duration(seconds: float) -> str:
    """Return a duration as text, in the largest unit that divides it.

    >>> [format_duration(seconds) for seconds in (86_400, 300.0, 2.0, 0.5, 0)]
    ['1d', '5m', '2s', '500ms', '0s']
    """
    length = timedelta(seconds=seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if length and length % timedelta(seconds=size) == timedelta():
            return f"{length // timedelta(seconds=size)}{unit}"
    return f"{seconds * 1_000:g}ms" if length else "0s"


def _seconds(value: Any) -> Any:
    """Read a text; a number is taken as it is, for pydantic to check."""
    return seconds_of(value) if isinstance(value, str) else value


def _whole_seconds(value: Any) -> Any:
    found = _seconds(value)
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no whole number of seconds; expected {FORMS}")
    return found


Seconds = Annotated[float, BeforeValidator(_seconds)]
"""A setting in seconds, which may be written as any duration."""

WholeSeconds = Annotated[int, BeforeValidator(_whole_seconds)]
"""A setting in whole seconds, which may be written as any duration."""
