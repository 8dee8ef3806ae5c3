"""What an app declares beside features: kinds of recommendation, triggers, the label, request-time features, steps.

All of it is data and pure functions; the worker, the service and training take it from the loaded app.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from stillpoint.app.conditions import Condition
from stillpoint.app.events import Event
from stillpoint.app.place import Place, here
from stillpoint.app.views import StreamView
from stillpoint.dtypes import DType

CHANNELS = frozenset({"pull", "push", "modal"})
Columns: TypeAlias = Mapping[str, Any]


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
    when: Condition | Turns | Callable[[Any], bool] | None = None
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
    undone_by: Condition | None = None
    undone_event: type[Event] | None = None
    undone_within: timedelta | None = None
    place: Place = field(default_factory=here)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimeFeature:
    """A feature of user, candidate and moment: a pure function over columns, computed alike in training and serving."""

    name: str
    inputs: tuple[str, ...]
    compute: Callable[[Columns], Any]
    unit: str
    description: str
    dtype: DType = DType.FLOAT64
    minimum: float | None = None
    maximum: float | None = None
    null_when: str | None = None
    place: Place = field(default_factory=here)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostProcessing:
    """The steps after ranking, by name, in their order; `options` are a step's own."""

    steps: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    place: Place = field(default_factory=here)
