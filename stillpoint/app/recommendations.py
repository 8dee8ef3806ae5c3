"""What an app declares beside features: kinds of recommendation, triggers, the label, request-time features, steps.

All of it is data and pure functions; the worker, the service and training take it from the loaded app.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from stillpoint.app.conditions import Condition
from stillpoint.app.events import Event
from stillpoint.app.place import Place, here
from stillpoint.app.records import Feature
from stillpoint.app.views import StreamView
from stillpoint.dtypes import DType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHANNELS = frozenset({"pull", "push", "modal"})
Columns: TypeAlias = "Mapping[str, npt.NDArray[Any]]"
Values: TypeAlias = "npt.NDArray[np.float64]"
REQUEST_TIMESTAMP = "request_timestamp_us"
"""The column with the moment of a request, in microseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecommendationKind:
    """A kind of recommendation: how it is delivered, how long it is good for, and which candidates it may show."""

    name: str
    delivery: str
    ttl: timedelta
    candidates: Condition | Callable[[Columns], Any] | None = None
    limit: int = 20
    place: Place = field(default_factory=here)


@dataclass(frozen=True, slots=True)
class Turns:
    """A feature of a view becomes true with an event."""

    view: type[StreamView]
    feature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """An event that asks for recommendations, if it meets the condition and is not older than `max_age`."""

    on: type[Event]
    kinds: tuple[RecommendationKind, ...]
    when: "object | Turns | Callable[[Any], bool] | None" = None
    channel: str = "pull"
    max_age: timedelta = timedelta(minutes=5)
    place: Place = field(default_factory=here)


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a shown item must lead to: an event on it within a time, not undone by another within a time."""

    shown: type[Event]
    items: str
    positive: type[Event]
    item: str
    within: timedelta
    undone_by: object = None
    undone_event: type[Event] | None = None
    undone_within: timedelta | None = None
    place: Place = field(default_factory=here)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimeFeature:
    """A feature of user, candidate and moment: a pure function over columns, computed alike in training and serving.

    A column has n rows, or one that holds for all; missing is NaN, or None in a column of texts.
    """

    name: str
    inputs: tuple[str, ...]
    compute: Callable[[Columns], Values]
    unit: str
    description: str
    dtype: DType = DType.FLOAT64
    minimum: float | None = None
    maximum: float | None = None
    null_when: str | None = None
    place: Place = field(default_factory=here)

    @property
    def feature(self) -> Feature:
        """The record from which columns and descriptions derive."""
        return Feature(
            name=self.name,
            dtype=self.dtype,
            unit=self.unit,
            description=self.description,
            minimum=self.minimum,
            maximum=self.maximum,
            null_when=self.null_when,
        )


def request_time(
    *inputs: str, unit: str, minimum: float | None = None, maximum: float | None = None, null_when: str | None = None
) -> "Callable[[Callable[[Columns], Values]], RequestTimeFeature]":
    """Declare a function of columns as a request-time feature: its name is the feature's, its docstring says what it is."""
    place = here()

    def declare(compute: Callable[[Columns], Values]) -> RequestTimeFeature:
        return RequestTimeFeature(
            name=compute.__name__,
            inputs=inputs,
            compute=compute,
            unit=unit,
            description=" ".join((compute.__doc__ or "").split()),
            minimum=minimum,
            maximum=maximum,
            null_when=null_when,
            place=place,
        )

    return declare


@dataclass(frozen=True, slots=True, kw_only=True)
class PostProcessing:
    """The steps after ranking, by name, in their order; `options` are a step's own."""

    steps: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    place: Place = field(default_factory=here)
