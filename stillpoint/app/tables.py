"""The tables that an app keeps beside its events (users, its catalogue), and the daily views over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stillpoint.app.entities import Entity
from stillpoint.app.events import Event
from stillpoint.app.place import Place, here
from stillpoint.app.records import Feature, Origin, View
from stillpoint.dtypes import DType, Kind

if TYPE_CHECKING:
    import polars as pl

    from stillpoint.features.daily import Day


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    kind: Kind
    optional: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of entities, one row per change; `updated_at` stands beside the columns."""

    name: str
    entity: Entity
    columns: Mapping[str, Column]
    place: Place = field(default_factory=here)


def column(
    name: str, dtype: DType, *, unit: str = "text", description: str, null_when: str | None = None, **bounds: Any
) -> Feature:
    """Return a feature of a daily view."""
    return Feature(name=name, dtype=dtype, unit=unit, description=description, null_when=null_when, **bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyView:
    """Features computed once a day. `compute` is a pure function of the day: of the events and tables as of its start.

    It returns a row per entity, with the keys and the features as columns. A view of users is given some users at a time. A
    view of another entity sees no events: `adds` returns, for some users, a row per key with whole numbers, and `compute`
    finds the sums of all users in `day.sums`. `events` are the types that it reads, `reaches` says how far back they lie.
    """

    name: str
    entity: Entity
    features: tuple[Feature, ...]
    compute: "Callable[[Day], pl.DataFrame]"
    description: str
    events: tuple[type[Event], ...] = ()
    reaches: timedelta = timedelta(0)
    adds: "Callable[[Day], pl.DataFrame] | None" = None
    ttl: timedelta | None = None
    place: Place = field(default_factory=here)

    @property
    def record(self) -> View:
        """The record that Feast's definitions derive from."""
        return View(
            name=self.name,
            entity=self.entity,
            origin=Origin.DAILY,
            ttl=self.ttl,
            features=self.features,
            description=self.description,
        )


def daily_view(
    entity: Entity,
    *features: Feature,
    events: tuple[type[Event], ...] = (),
    reaches: timedelta = timedelta(0),
    adds: "Callable[[Day], pl.DataFrame] | None" = None,
    ttl: timedelta | None = None,
) -> "Callable[[Callable[[Day], pl.DataFrame]], DailyView]":
    """Declare a function of a day as a daily view: its name is the view's, its docstring says what it is."""
    place = here()

    def declare(compute: "Callable[[Day], pl.DataFrame]") -> DailyView:
        return DailyView(
            name=compute.__name__,
            entity=entity,
            features=features,
            compute=compute,
            description=" ".join((compute.__doc__ or "").split()),
            events=events,
            reaches=reaches,
            adds=adds,
            ttl=ttl,
            place=place,
        )

    return declare
