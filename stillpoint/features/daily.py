"""The daily views: what was known about entities at the start of a day.

Pure over tables. Day D (UTC) sees on-time events that happened and arrived before D 00:00, and the newest rows of the app's
tables that were updated before it. Its rows carry D 00:00 as event and created timestamp, for history too.

Views of users are computed for some users at a time, so that the users of a lake may be taken in parts. A view of another
entity says what some users add to its sums, and is computed from the sums of all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import numpy as np
import polars as pl
import pyarrow as pa

from stillpoint.app.events import Event
from stillpoint.app.records import View
from stillpoint.app.tables import DailyView, Table
from stillpoint.encoder import Encoder
from stillpoint.events.types import Verdict
from stillpoint.features.columns import embeddings_array, feature_columns

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersDay:
    """What some users add to a day: their rows of the views of users, and their part of the others' sums, by view."""

    day: date
    tables: Mapping[str, pa.Table]
    sums: Mapping[str, pl.DataFrame]


def daily_tables(
    days: list[date], views: Sequence[DailyView], *, events: pa.Table, tables: Mapping[str, pa.Table], encoder: Encoder
) -> Iterator[tuple[date, View, pa.Table]]:
    """Yield each day's rows of each daily view, in `feature_columns`, day by day in the order given.

    `events` must reach as far back from the first day as the views look; other verdicts are ignored. `tables` are the
    app's, by name, with all rows of each entity.
    """
    whole = WholeDays(views, tables, encoder)
    for own in users_days(days, views, events=events, tables=tables):
        for view in views:
            found = own.tables.get(view.name)
            yield own.day, view.record, whole.table(view, own.day, own.sums[view.name]) if found is None else found


def users_days(
    days: Sequence[date], views: Sequence[DailyView], *, events: pa.Table, tables: Mapping[str, pa.Table]
) -> Iterator[UsersDay]:
    """Yield what some users add to each day. `events` and tables of users hold all rows of these users, and may hold no others.

    So the users of a lake may be taken in parts: their rows, part after part in the order of the users' ids, and the sums
    of their sums (`all_sums`) are what all users taken at once give.
    """
    known = _Known(events, tables)
    for day in days:
        seen = Day(_midnight(day), known, None)
        yield UsersDay(
            day=day,
            tables={
                view.name: _table(view.record, view.compute(seen), seen.midnight)
                for view in views
                if view.entity.of_user
            },
            sums={view.name: _added(view, seen) for view in views if not view.entity.of_user},
        )


def all_sums(view: DailyView, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the sums of all users, of those of parts of the users."""
    keys = list(view.entity.keys)
    return pl.concat(parts).group_by(keys).agg(pl.exclude(keys).sum())


class WholeDays:
    """The rows of views that are not of users, with each text encoded once."""

    def __init__(self, views: Sequence[DailyView], tables: Mapping[str, pa.Table], encoder: Encoder) -> None:
        self._known = _Known(None, tables)
        self._texts = _Texts(encoder)
        self.views = tuple(view for view in views if not view.entity.of_user)

    def table(self, view: DailyView, day: date, sums: pl.DataFrame) -> pa.Table:
        """Return a view's rows of a day, from the sums of all users."""
        seen = Day(_midnight(day), self._known, self._texts, sums)
        return _table(view.record, view.compute(seen), seen.midnight)


def reach_of(views: Sequence[DailyView]) -> timedelta:
    """Return how far before the first day the events must reach."""
    return max((view.reaches for view in views), default=timedelta(0))


def event_types_of(views: Sequence[DailyView]) -> tuple[type[Event], ...]:
    """Return the event types that the views read, ordered by name."""
    found = {leaf for view in views for event in view.events for leaf in event.leaves}
    return tuple(sorted(found, key=lambda event: event.type_name))


class Day:
    """What a daily view may look at: all that was known at `midnight`, when the day begins."""

    def __init__(
        self, midnight: datetime, known: "_Known", texts: "_Texts | None", sums: pl.DataFrame | None = None
    ) -> None:
        self.midnight = midnight
        self._known = known
        self._texts = texts
        self._sums = sums
        self._made: dict[object, object] = {}

    def events(self, *types: type[Event], within: timedelta) -> pl.DataFrame:
        """Return the on-time events of some types that happened in [midnight - within, midnight) and had arrived, by time."""
        kinds = tuple(sorted({leaf.type_name for event in types for leaf in event.leaves}))
        known = (pl.col("event_timestamp") < self.midnight) & (pl.col("arrived_at") < self.midnight)
        recent = pl.col("event_timestamp") >= self.midnight - within
        return self._known.of_types(kinds).filter(known & recent)

    def table(self, table: Table) -> pl.DataFrame:
        """Return each entity's newest row that was updated before midnight, ordered by key."""
        keys = list(table.entity.keys)
        before = self._known.tables[table.name].filter(pl.col("updated_at") < self.midnight)
        ordered = before.sort(*keys, "updated_at", maintain_order=True)
        return ordered.unique(subset=keys, keep="last", maintain_order=True)

    @property
    def sums(self) -> pl.DataFrame:
        """What all users together add, a row per key: for a view that is not of users."""
        if self._sums is None:
            raise ValueError("a view of users sees no sums: it is computed for some users at a time")
        return self._sums

    def embedded(self, texts: pl.Series) -> pl.Series:
        """Return the texts' embeddings; null for a text without a known word."""
        if self._texts is None:
            raise ValueError("a view of users has no texts to embed: embed those of an entity's table")
        return pl.Series(self._texts.embeddings(texts.to_list()))

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Return what `make` gave for this key and day: what several views share is computed once."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]  # type: ignore[return-value]


class _Known:
    """The events and tables of all days."""

    def __init__(self, events: pa.Table | None, tables: Mapping[str, pa.Table]) -> None:
        self._events = None if events is None else _frame(events).filter(pl.col("verdict") == Verdict.ON_TIME.value)
        self._of_types: dict[tuple[str, ...], pl.DataFrame] = {}
        self.tables = {name: _frame(table) for name, table in tables.items()}

    def of_types(self, kinds: tuple[str, ...]) -> pl.DataFrame:
        if self._events is None:
            raise ValueError(
                "a view that is not of users sees no events; say in `adds` what some users add to its sums"
            )
        if kinds not in self._of_types:
            chosen = self._events.filter(pl.col("type").is_in(list(kinds)))
            self._of_types[kinds] = chosen.sort("event_timestamp", "event_id")
        return self._of_types[kinds]


class _Texts:
    """Embeddings of texts, each encoded once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, object] = {}

    def embeddings(self, texts: list[str]) -> pa.Array:
        unknown = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        for text, vector in zip(unknown, self._encoder.encode(unknown), strict=True):
            self._vectors[text] = None if np.isnan(vector[0]) else vector
        return embeddings_array([self._vectors[text] for text in texts])


def _added(view: DailyView, day: Day) -> pl.DataFrame:
    if view.adds is None:
        return pl.DataFrame(schema=dict.fromkeys(view.entity.keys, pl.String))
    return view.adds(day)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _table(view: View, frame: pl.DataFrame, midnight: datetime) -> pa.Table:
    """Return the frame in the view's columns, stamped with the day."""
    schema = feature_columns(view)
    moment = pa.scalar(midnight, schema.field("event_timestamp").type)
    stamps = pa.array([moment.as_py()] * len(frame), moment.type)
    arrays = [
        stamps
        if field.name in ("event_timestamp", "created_timestamp")
        else frame[field.name].to_arrow().cast(field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def days_between(first: date, last: date) -> list[date]:
    """Return the days from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
