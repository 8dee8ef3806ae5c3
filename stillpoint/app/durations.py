"""Lengths of time as declarations write them: `minutes(10)`, `hours(1)`, `days(30)`."""

from datetime import timedelta

_MICROSECOND = timedelta(microseconds=1)


def seconds(count: float) -> timedelta:
    """Return `count` seconds."""
    return timedelta(seconds=count)


def minutes(count: float) -> timedelta:
    """Return `count` minutes."""
    return timedelta(minutes=count)


def hours(count: float) -> timedelta:
    """Return `count` hours."""
    return timedelta(hours=count)


def days(count: float) -> timedelta:
    """Return `count` days of 24 hours."""
    return timedelta(days=count)


def micros(length: timedelta) -> int:
    """Return a length in microseconds, exactly."""
    return length // _MICROSECOND


def label(length_us: int) -> str:
    """Return a length as it stands in a feature's name.

    >>> [label(micros(length)) for length in (minutes(10), hours(24), days(30), seconds(90))]
    ['10m', '24h', '30d', '90s']
    """
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000)):
        if length_us % size == 0 and (unit != "d" or length_us > size):
            return f"{length_us // size}{unit}"
    return f"{length_us}us"
