"""Features can be tried by hand: feed a view a handful of events, and get its rows as a table.

>>> from stillpoint.app import Event, StreamView, count, hours, minutes, user
>>> class Start(Event):
...     category: str
>>> class Listening(StreamView):
...     "What the user listened to lately."
...     entity, ttl = user, hours(2)
...     starts = count(Start, over=[minutes(10)])
>>> print(feed(Listening, at(Start, "12:00", category="sleep"), at(Start, "12:09", category="focus"), at(Start, "12:10")))
user_id | event_timestamp  | created_timestamp | starts_10m
u1      | 2026-01-01 12:00 | 2026-01-01 12:00  | 1
u1      | 2026-01-01 12:09 | 2026-01-01 12:09  | 2
u1      | 2026-01-01 12:10 | 2026-01-01 12:10  | 2
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from stillpoint.app.checks.views import view_faults
from stillpoint.app.events import Arrival, Event
from stillpoint.app.fields import fields_of
from stillpoint.app.load import InvalidApp
from stillpoint.app.views import StreamView
from stillpoint.dtypes import Kind

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder

_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_AGE_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """A view's rows: `columns` names them, `values` holds them; printed as a table."""

    columns: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> list[Any]:
        """Return the values of one column."""
        place = self.columns.index(name)
        return [row[place] for row in self.values]

    def last(self) -> dict[str, Any]:
        """Return the newest row by column."""
        return dict(zip(self.columns, self.values[-1], strict=True))

    def __str__(self) -> str:
        shown = [self.columns, *(tuple(map(_shown, row)) for row in self.values)]
        widths = [max(len(row[place]) for row in shown) for place in range(len(self.columns))]
        lines = (" | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in shown)
        return "\n".join(line.rstrip() for line in lines)


def at(event: type[Event], moment: str | datetime, *, arrives: str | datetime | None = None, **fields: Any) -> Arrival:
    """Return an event of a type at a moment (`"12:00"` is on 2026-01-01 UTC), made up where fields are not given.

    It arrives at once unless told when. Its user is `u1` unless told whose it is.
    """
    happened = _moment(moment)
    arrived = happened if arrives is None else _moment(arrives)
    text = happened.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    given = {
        name: _plausible(field.kind, field.values) for name, field in fields_of(event).items() if not field.optional
    }
    told = f"{event.type_name} {text} {sorted(fields.items())}"
    made = hashlib.sha256(told.encode()).hexdigest()[:32]
    key = f"{made[:8]}-{made[8:12]}-{made[12:16]}-{made[16:20]}-{made[20:]}"
    envelope = {"schema_version": 1, "event_id": key, "user_id": "u1", "platform": "web", "event_timestamp": text}
    one = event(**{**given, **envelope, **fields})
    event_us = (happened - _EPOCH) // timedelta(microseconds=1)
    return Arrival(one, event_us, (arrived - _EPOCH) // timedelta(microseconds=1), bytes.fromhex(one.event_id.replace("-", "")))  # fmt: skip


def feed(view: type[StreamView], *arrivals: Arrival, encoder: "Encoder | None" = None) -> Rows:
    """Return the newest row of each key and time that events in the order of their arrival give, by the stream's way.

    Raises:
        InvalidApp: the view has faults.
    """
    from stillpoint.features.streamed.engine import Engine

    if faults := tuple(view_faults([view], view.event_types())):
        raise InvalidApp(view.name, faults)
    engine = Engine([view], max_event_age_us=_MAX_AGE_US, encoder=encoder)
    width = len(view.entity.keys)
    newest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in _streamed(engine, view, arrivals):
        newest[row[: width + 1]] = row
    columns = (*view.entity.keys, "event_timestamp", "created_timestamp", *(one.name for one in view.features()))
    return Rows(columns, tuple(_timed(newest[place], width) for place in sorted(newest)))


def _streamed(engine: Any, view: type[StreamView], arrivals: Sequence[Arrival]) -> list[tuple[Any, ...]]:
    """Feed events one by one, each user's state as bytes in between."""
    from stillpoint.features.streamed.state import UserState

    states: dict[str, bytes] = {}
    keys: dict[tuple[str, ...], bytes] = {}
    rows: list[tuple[Any, ...]] = []
    for arrival in arrivals:
        user_id = arrival.event.user_id
        outcome = engine.advance(UserState.from_bytes(states.get(user_id, b"")), [arrival])
        states[user_id] = outcome.state.to_bytes()
        rows += outcome.rows.get(view.name, [])
        on_time = [one for one, verdict in zip(outcome.arrivals, outcome.verdicts, strict=True) if verdict == "on_time"]
        for key, own in engine.regrouped(on_time).get(view.name, {}).items():
            found = engine.advance_key(view.name, key, keys.get(key, b""), own)
            keys[key] = found.state
            rows += found.rows
    return rows


def _timed(row: tuple[Any, ...], width: int) -> tuple[Any, ...]:
    times = (_EPOCH + timedelta(microseconds=us) for us in row[width : width + 2])
    return (*row[:width], *times, *row[width + 2 :])


def _moment(moment: str | datetime) -> datetime:
    if isinstance(moment, datetime):
        return moment
    known = datetime.fromisoformat(moment if "-" in moment else f"{_DAY:%Y-%m-%d} {moment}")
    return known if known.tzinfo is not None else known.replace(tzinfo=UTC)


def _plausible(kind: Kind | None, values: tuple[str, ...] | None) -> Any:
    if values is not None:
        return values[0]
    made: dict[Kind | None, Any] = {Kind.INTEGER: 1, Kind.NUMBER: 1.0, Kind.FLAG: True, Kind.TEXTS: ("a",)}
    return made.get(kind, "a")


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M" + ("" if not value.second and not value.microsecond else ":%S.%f"))
    return str(value)
