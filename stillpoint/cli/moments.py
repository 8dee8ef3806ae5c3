"""Parsers of days and times on the command line, which refuse the future.

Each function is the `parser` of an option. A time without a zone is UTC, whatever the machine's zone. A day that has not
begun, or a time further ahead than clocks may differ, is a usage error: rows of the future would win over all true ones.
"""

from datetime import UTC, date, datetime

import typer

from stillpoint.clock import FUTURE_TOLERANCE, system_clock

TRIM_HORIZON, LATEST = "TRIM_HORIZON", "LATEST"


def day(text: str) -> date:
    """Return a UTC day that has begun.

    >>> day("2026-03-01")
    datetime.date(2026, 3, 1)

    Raises:
        BadParameter: it is not a day, or has not begun.
    """
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day; write it like 2026-03-01") from None
    today = system_clock().date()
    if found > today:
        raise typer.BadParameter(f"{found} has not begun; today is {today} UTC")
    return found


def moment(text: str) -> datetime:
    """Return a time that has passed, in UTC; a day alone means its first moment.

    >>> moment("2026-03-01T13:00:00+01:00").isoformat(), moment("2026-03-01").isoformat()
    ('2026-03-01T12:00:00+00:00', '2026-03-01T00:00:00+00:00')

    Raises:
        BadParameter: it is not a time, or lies in the future.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write it like 2026-03-01T12:00:00Z, or 2026-03-01 for its first moment"
        ) from None
    try:
        found = found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is beyond the times that can be written down") from None
    now = system_clock()
    if found > now + FUTURE_TOLERANCE:
        raise typer.BadParameter(f"{found:%Y-%m-%dT%H:%M:%SZ} lies in the future; it is {now:%Y-%m-%dT%H:%M:%SZ}")
    return found


def start(text: str) -> str:
    """Return where reading a stream begins: `TRIM_HORIZON`, `LATEST`, or a past time as ISO text in UTC.

    Raises:
        BadParameter: it is neither of the words, nor a past time.
    """
    if text in (TRIM_HORIZON, LATEST):
        return text
    try:
        return moment(text).isoformat()
    except typer.BadParameter as error:
        raise typer.BadParameter(f"{error.message}; {TRIM_HORIZON} and {LATEST} are known too") from None


def in_order(first: date | None, last: date | None) -> None:
    """Refuse a range that ends before it begins.

    Raises:
        BadParameter: `--from` lies after `--to`.
    """
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"--from {first} lies after --to {last}; swap them")
