"""The clock, and times as integers.

Below an entry point time is an argument. Entry points take a `Clock`, so that tests control the time. Inside computations
a time is an `int`: microseconds since 1970-01-01 UTC.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns the present as an aware datetime in UTC."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

FUTURE_TOLERANCE = timedelta(seconds=60)
"""How far a client's clock may be ahead of ours."""


def system_clock() -> datetime:
    """Return the present by the machine's clock, in UTC."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Return a time as microseconds since 1970-01-01 UTC, exactly.

    >>> to_micros(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000

    Raises:
        ValueError: `moment` has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {moment!r}; attach one, for example tzinfo=UTC")
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Return the UTC datetime of microseconds since 1970-01-01 UTC.

    >>> from_micros(1_000_000)
    datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.timezone.utc)
    """
    return _EPOCH + timedelta(microseconds=micros)
