"""A streamed view is a class that reads like a table: an entity, a time-to-live, and a line per feature.

>>> from stillpoint.app import Event, StreamView, count, hours, minutes, user
>>> class Start(Event):
...     category: str
>>> class Listening(StreamView):
...     "What the user listened to lately."
...     entity, ttl = user, hours(2)
...     starts = count(Start, over=[minutes(10), hours(1)])
>>> Listening.name, [feature.name for feature in Listening.features()]
('listening', ['starts_10m', 'starts_1h'])
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from stillpoint.app.aggregations import Aggregated
from stillpoint.app.conditions import Field
from stillpoint.app.digest import digest
from stillpoint.app.durations import days, micros, minutes
from stillpoint.app.entities import Entity
from stillpoint.app.events import Event, snake
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.app.meaning import meaning_of
from stillpoint.app.place import Place, here
from stillpoint.app.records import Feature
from stillpoint.app.windows import Sliding, Window
from stillpoint.features.streamed.aggregations.contract import Aggregation

if TYPE_CHECKING:
    from stillpoint.encoder import Encoder
    from stillpoint.features.streamed.definition import Definition


@dataclass(frozen=True, slots=True)
class StreamedFeature:
    """One feature of a view: an aggregation over one window, under its full name."""

    name: str
    declared: Aggregated
    window: Window
    aggregation: Aggregation[Any]
    field: FieldInfo | None


class StreamView:
    """Features of one entity that are computed from events and stored together.

    `row_step` rounds the times of rows up to whole steps: a view that is not of one user has a row per key and step
    instead of one per event, a minute unless declared otherwise.
    """

    name: ClassVar[str]
    entity: ClassVar[Entity]
    ttl: ClassVar[timedelta | None] = None
    owner: ClassVar[str | None] = None
    row_step: ClassVar[timedelta] = minutes(1)
    place: ClassVar[Place]

    def __init_subclass__(cls) -> None:
        cls.place = here()
        if "name" not in cls.__dict__:
            cls.name = snake(cls.__name__)

    @classmethod
    def declared(cls) -> dict[str, Aggregated]:
        """Return the features as they are written, in their order."""
        return {name: one for name, one in vars(cls).items() if isinstance(one, Aggregated)}

    @classmethod
    def features(cls) -> tuple[StreamedFeature, ...]:
        """Return the features under their full names."""
        return tuple(
            _feature(f"{name}_{window.label}" if declared.numbered else name, declared, window)
            for name, declared in cls.declared().items()
            for window in declared.over
        )

    @classmethod
    def event_types(cls) -> tuple[type[Event], ...]:
        """Return the event types that can change a row, ordered by name."""
        found = {leaf for one in cls.declared().values() for event in (*one.events, *one.of) for leaf in event.leaves}
        return tuple(sorted(found, key=lambda event: event.type_name))

    @classmethod
    def digest(cls) -> str:
        """Return the digest of what the view computes: not of its words, its owner or its time-to-live."""
        rules = [_rule(feature) for feature in cls.features()]
        return digest({"keys": cls.entity.keys, "step": cls.step_us(), "features": rules})

    @classmethod
    def step_us(cls) -> int | None:
        """Return the step of row times, None for a view whose keys belong to one user: a row per event."""
        return None if cls.entity.of_user else micros(cls.row_step)


class CustomView(StreamView):
    """A view whose definition is written by hand: what it computes is beyond any aggregation.

    `on` are its event types, `makes` is called with the encoder and gives the `Definition`, `described` are the records
    of its features, `reach` says how long before a row an event may lie that counts. Its digest follows from what `makes`
    does, with all of the app that it calls; what it takes from elsewhere counts by `version`, which whoever changes it raises.
    """

    on: ClassVar[tuple[type[Event], ...]]
    makes: ClassVar[Callable[["Encoder | None"], "Definition[Any]"]]
    described: ClassVar[tuple[Feature, ...]]
    reach: ClassVar[timedelta] = days(1)
    version: ClassVar[int] = 1

    @classmethod
    def event_types(cls) -> tuple[type[Event], ...]:
        found = {leaf for event in cls.on for leaf in event.leaves}
        return tuple(sorted(found, key=lambda event: event.type_name))

    @classmethod
    def digest(cls) -> str:
        kinds = [[feature.name, feature.dtype] for feature in cls.described]
        events = [event.type_name for event in cls.event_types()]
        made = meaning_of(cls.__dict__["makes"])
        return digest({"keys": cls.entity.keys, "on": events, "features": kinds, "by": made, "version": cls.version})


def _feature(name: str, declared: Aggregated, window: Window) -> StreamedFeature:
    """Return a feature; a window whose value hangs on the newest few events needs no steps, and is exact."""
    field = None
    if isinstance(declared.field, Field):
        leaf = declared.field.event.leaves[0]  # type: ignore[attr-defined]
        field = fields_of(leaf).get(declared.field.name)
    aggregation = declared.aggregation.for_kind(field.kind if field else None)
    if isinstance(window, Sliding) and (aggregation.newest is not None or aggregation.name == "own"):
        window = Sliding(window.length_us)
    return StreamedFeature(name, declared, window, aggregation, field)


def _rule(feature: StreamedFeature) -> list[object]:
    """Return what decides a feature's values, as plain data."""
    declared = feature.declared
    aggregation = feature.aggregation
    parameters = {
        one.name: meaning_of(value) if callable(value) else value
        for one in dataclasses.fields(aggregation)
        if (value := getattr(aggregation, one.name)) is not None
    }
    return [
        feature.name,
        aggregation.name,
        parameters,
        [leaf.type_name for event in declared.events for leaf in event.leaves],
        [leaf.type_name for event in declared.of for leaf in event.leaves],
        declared.field.name if isinstance(declared.field, Field) else declared.field,
        str(declared.told.get("where")),
        str(feature.window),
        declared.told.get("default"),
    ]
