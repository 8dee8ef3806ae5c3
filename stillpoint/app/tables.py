"""The tables that an app keeps beside its events (users, its catalogue), and the daily views over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from stillpoint.app.entities import Entity
from stillpoint.app.place import Place, here
from stillpoint.app.records import Feature, Origin, View
from stillpoint.dtypes import DType, Kind


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
    """Features computed once a day. `compute` is a pure function of the day, the events before it and the tables."""

    name: str
    entity: Entity
    features: tuple[Feature, ...]
    compute: Callable[..., Any]
    description: str
    reaches: timedelta
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
