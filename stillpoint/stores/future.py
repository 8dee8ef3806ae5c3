"""A row whose event time lies in the future is refused by a push and left out of a fill.

Being newer than every true row, it would be served and joined in their place until its time has passed. A row with a
created time of the future would hide every correction, so a push refuses it too. As clocks differ a little,
`future_tolerance_seconds` of either store sets how far ahead a time may be; null accepts any time, for features that are
known in advance.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from stillpoint.clock import from_micros, to_micros
from stillpoint.errors import InvalidInput
from stillpoint.stores.redis.layout import decode_created, describe_key
from stillpoint.stores.redis.writer import EncodedRows
from stillpoint.stores.values.times import decode_time

log = logging.getLogger(__name__)

TOLERANCE_SECONDS = 60.0
EVENT, CREATED = "event", "created"
_SLACK_US = 5_000_000
"""A fill's end may lie this far behind the limit without a warning: it was taken from the clock a moment ago."""


def latest_us(now: datetime, tolerance: float | None) -> int | None:
    """Return the latest event time that is accepted now, in microseconds since 1970; None accepts any."""
    return None if tolerance is None else to_micros(now) + round(tolerance * 1_000_000)


def refuse_future(
    view: str,
    times: Iterable[int | None],
    names: Sequence[str],
    *,
    now: datetime,
    tolerance: float | None,
    what: str = EVENT,
) -> None:
    """Refuse rows whose time lies in the future. `what` is `EVENT` or `CREATED`; `names` describes each row's entity for
    the error text, or is empty.

    Raises:
        InvalidInput: names view, row, time, and how far that is ahead.
    """
    latest = latest_us(now, tolerance)
    if latest is None:
        return
    for row, micros in enumerate(times):
        if micros is not None and micros > latest:
            ahead = (micros - latest) / 1_000_000 + (tolerance or 0)
            whose = f" ({names[row]})" if row < len(names) else ""
            raise InvalidInput(
                f"view {view}: the {what} timestamp of row {row}{whose} is {_text(micros)}, which lies {ahead:,.0f} s in the "
                f"future; expected at most {tolerance:g} s. A time without a zone counts as UTC: attach the zone, as in "
                "datetime.now(UTC). For features that are known ahead set future_tolerance_seconds of the store, or null"
            )


def refuse_future_rows(view: str, rows: EncodedRows, *, now: datetime, tolerance: float | None) -> None:
    """Refuse encoded rows whose event time lies in the future, as `refuse_future` does.

    Raises:
        InvalidInput: as `refuse_future`.
    """
    latest = latest_us(now, tolerance)
    if latest is None:
        return
    known: dict[bytes, int] = {event: decode_time(event) for event in set(rows.events)}
    if known and max(known.values()) > latest:
        refuse_future(view, (known[event] for event in rows.events), _names(rows), now=now, tolerance=tolerance)
    pairs = list(zip(rows.created, rows.events, strict=True))
    learned = {pair: decode_created(*pair) for pair in set(pairs)}
    if max((micros for micros in learned.values() if micros is not None), default=latest) > latest:
        refuse_future(view, (learned[pair] for pair in pairs), _names(rows), now=now, tolerance=tolerance, what=CREATED)


def until_now(view: str, end: datetime, *, now: datetime, tolerance: float | None) -> datetime:
    """Return a fill's end, at most now plus the tolerance; an earlier end than `end` is logged as a warning."""
    latest = latest_us(now, tolerance)
    if latest is None or to_micros(end) <= latest:
        return end
    if to_micros(end) <= latest + _SLACK_US:
        return from_micros(latest)
    log.warning(
        "view %s: the fill ends at %s instead of %s: rows that claim to happen later are left out, as they would outlive "
        "true ones; a later fill takes them when their time has come",
        view,
        _text(latest),
        end.isoformat(),
    )
    return from_micros(latest)


def _names(rows: EncodedRows) -> list[str]:
    return [describe_key(key) for key in rows.keys]


def _text(micros: int) -> str:
    try:
        return from_micros(micros).isoformat()
    except OverflowError:
        return f"{micros} microseconds after 1970"
