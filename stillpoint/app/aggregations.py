"""The aggregations of a streamed view, as its class writes them: `plays = count(ContentStart, over=hours(1))`.

Each call takes event types or a field of one, and says `over` which window. Over a list of windows the feature's name is
completed by each window's label: `plays_10m`, `plays_1h`; over one window it stands as written. All take what `Told`
lists: a filter, the unit, the range, the value without events, what the feature means and who owns it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeAlias, TypedDict, Unpack

from stillpoint.app.conditions import Field
from stillpoint.app.durations import micros
from stillpoint.app.events import Event
from stillpoint.app.place import Place, here
from stillpoint.app.windows import Window, window
from stillpoint.dtypes import DType
from stillpoint.features.streamed.aggregations import changes, counting, embeddings, frequency, numbers, order
from stillpoint.features.streamed.aggregations.contract import Aggregation
from stillpoint.features.streamed.aggregations.own import Own

Over: TypeAlias = timedelta | Window | Sequence[timedelta | Window]
EventType: TypeAlias = type[Event]


class Told(TypedDict, total=False):
    """What any feature may say beside its definition.

    `where` is a condition over the event's fields, `default` the value without any event (otherwise null, or 0 for a
    count).
    """

    where: object
    unit: str
    description: str
    minimum: float
    maximum: float
    owner: str
    default: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregated:
    """A declared feature, before its name is known. `of` and `on` are a share's base events and the field that joins."""

    aggregation: Aggregation[Any]
    events: tuple[EventType, ...]
    field: object
    over: tuple[Window, ...]
    numbered: bool
    told: Told
    place: Place
    of: tuple[EventType, ...] = ()
    encoded: bool = False


def count(*events: EventType, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Count events."""
    return _over(counting.Count(), events, None, over, told)


def exists(*events: EventType, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Say whether there is any event."""
    return _over(counting.Exists(), events, None, over, told)


def count_distinct(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Count the different values of a field, exactly."""
    return _of(counting.CountDistinct(), field, over, told)


def share(event: EventType, *, of: EventType, on: str, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return the share of the `of` events' different `on` values that an `event` carries too.

    `share(Purchase, of=View, on="product_id", over=days(30))` is how many of the products viewed were bought.
    """
    return Aggregated(
        aggregation=counting.Share(),
        events=(event,),
        field=on,
        of=(of,),
        over=_windows(over),
        numbered=_many(over),
        told=told,
        place=here(),
    )


def sum_(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Sum a field: exactly, and rounded once."""
    return _of(numbers.Sum(), field, over, told)


def mean(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's mean."""
    return _of(numbers.Mean(), field, over, told)


def standard_deviation(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's standard deviation, of the values themselves (divided by their number)."""
    return _of(numbers.StandardDeviation(), field, over, told)


def minimum(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's least value."""
    return _of(numbers.Minimum(), field, over, told)


def maximum(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's greatest value."""
    return _of(numbers.Maximum(), field, over, told)


def slope(field: object, *, over: Over, per: timedelta = timedelta(minutes=1), **told: Unpack[Told]) -> Aggregated:
    """Return the least-squares slope of a field over time, `per` minute unless told otherwise."""
    return _of(changes.Slope(micros(per)), field, over, told)


def newer_minus_older(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's sum over the newer half of the window minus that over the older half."""
    return _of(changes.NewerMinusOlder(), field, over, told)


def first(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's value in the earliest event."""
    return _of(order.First(), field, over, told)


def last(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's value in the latest event."""
    return _of(order.Last(), field, over, told)


def last_n(field: object, n: int, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's values in the latest `n` events, newest first."""
    return _of(order.LastN(n), field, over, told)


def most_frequent(field: object, *, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return a field's most frequent value, of equally frequent ones the latest."""
    return _of(frequency.MostFrequent(), field, over, told)


def time_since_last(*events: EventType, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return the seconds since the latest event."""
    return _over(order.TimeSinceLast(), events, None, over, told)


def time_since_first(*events: EventType, over: Over, **told: Unpack[Told]) -> Aggregated:
    """Return the seconds since the earliest event: over a session, its age."""
    return _over(order.TimeSinceFirst(), events, None, over, told)


def embedding(field: object, *, newest: int, over: Over, decay: float = 0.5, **told: Unpack[Told]) -> Aggregated:
    """Blend the embeddings of a text in the `newest` events, each weighing `decay` of the one after it."""
    return replace(_of(embeddings.BlendedEmbedding(newest, decay), field, over, told), encoded=True)


def own(
    function: Callable[[Sequence[Any], int], Any],
    *events: EventType,
    gives: DType,
    over: Over,
    **told: Unpack[Told],
) -> Aggregated:
    """Call a pure function of the window's events, oldest first, and the moment in microseconds since 1970."""
    return _over(Own(function, gives), events, None, over, told)


def _of(aggregation: Aggregation[Any], field: object, over: Over, told: Told) -> Aggregated:
    events = (field.event,) if isinstance(field, Field) else ()
    return _over(aggregation, events, field, over, told)


def _over(
    aggregation: Aggregation[Any], events: tuple[EventType, ...], field: object, over: Over, told: Told
) -> Aggregated:
    return Aggregated(
        aggregation=aggregation,
        events=events,
        field=field,
        over=_windows(over),
        numbered=_many(over),
        told=told,
        place=here(),
    )


def _many(over: Over) -> bool:
    return isinstance(over, Sequence)


def _windows(over: Over) -> tuple[Window, ...]:
    return tuple(map(window, over)) if isinstance(over, Sequence) else (window(over),)
