"""Days and times as words of a command line: read before anything starts, and never from the future.

Each function is the `parser` of an option. Whatever has no zone is UTC, whatever the machine's zone is. A day that has not
begun, or a moment further ahead than clocks differ, is a usage error: rows and labels of the future would outlive all true ones.
"""

from datetime import UTC, date, datetime

import typer

from stillpoint.clock import system_clock
from stillpoint.features.declarations import FUTURE_TOLERANCE

TRIM_HORIZON, LATEST = "TRIM_HORIZON", "LATEST"


def day(text: str) -> date:
    """Return a UTC day that has begun.

    Raises:
        BadParameter: it is no day, or has not begun.
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
    """Return a moment that is over, in UTC; a day alone is its first moment.

    Raises:
        BadParameter: it is no time, or lies in the future.
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
    """Return where reading a stream begins: `TRIM_HORIZON`, `LATEST`, or a moment that is over as ISO text in UTC.

    Raises:
        BadParameter: it is neither of the words, nor such a moment.
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
