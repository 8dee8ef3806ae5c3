"""Is a function of one's own pure, quick, and does it give what it declares? It is run twice on made-up events."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

from stillpoint.app.events import Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.app.views import StreamedFeature
from stillpoint.dtypes import DType, Kind
from stillpoint.features.streamed.aggregations.own import Own

_SECONDS = 1.0
_EVENTS = 200
_AT_US = 1_767_225_600_000_000
_GIVES: dict[DType, tuple[type, ...]] = {
    DType.INT64: (int,),
    DType.FLOAT64: (float,),
    DType.BOOL: (bool,),
    DType.STRING: (str,),
    DType.STRINGS: (list,),
    DType.INT64S: (list,),
    DType.FLOAT64S: (list,),
}


def function_faults(feature: StreamedFeature, events: Sequence[type[Event]]) -> Iterator[str]:
    """Yield what is wrong with a function of one's own."""
    assert isinstance(feature.aggregation, Own)
    function, gives = feature.aggregation.function, feature.aggregation.gives
    for sample in ([], [made_up(events[0], 0)], [made_up(events[n % len(events)], n) for n in range(_EVENTS)]):
        started = time.perf_counter()
        try:
            found = function(tuple(sample), _AT_US)
            again = function(tuple(sample), _AT_US)
        except Exception as error:  # noqa: BLE001  whatever a function raises is its fault, and is told
            yield f"its function raises {type(error).__name__} for {len(sample)} events: {error}"
            return
        if time.perf_counter() - started > _SECONDS:
            yield f"its function takes over {_SECONDS:g} s for {2 * len(sample)} events; expected far less than a millisecond"
            return
        if repr(found) != repr(again):
            yield f"its function gives {found!r}, and then {again!r} for the same events; expected a pure function"
            return
        if reason := _unlike(found, gives):
            yield reason
            return


def _unlike(found: Any, gives: DType) -> str | None:
    if found is None:
        return None
    if not isinstance(found, _GIVES.get(gives, ())) or (isinstance(found, bool) and gives is not DType.BOOL):
        return f"its function gives {found!r}; expected {gives} or None"
    if isinstance(found, float) and not math.isfinite(found):
        return f"its function gives {found!r}; expected a finite number, or None where there is none"
    return None


def made_up(event: type[Event], number: int) -> Event:
    """Return an event of a type with plausible values; equal numbers give equal events."""
    fields = {name: _value(field, number) for name, field in fields_of(event).items()}
    fields |= {"event_id": f"00000000-0000-0000-0000-{number:012x}", "user_id": "u1"}
    return event(**fields | {"event_timestamp": "2026-01-01T00:00:00Z"})


def _value(field: FieldInfo, number: int) -> Any:
    if field.values is not None:
        return field.values[number % len(field.values)]
    low = field.minimum if field.minimum is not None else 0
    match field.kind:
        case Kind.INTEGER:
            return int(min(low + number % 5, field.maximum if field.maximum is not None else math.inf))
        case Kind.NUMBER:
            return float(min(low + number % 5, field.maximum if field.maximum is not None else math.inf))
        case Kind.FLAG:
            return number % 2 == 0
        case Kind.TEXTS:
            return ("a",) * max(1, int(low))
    return "abcde"[number % 5] * max(1, int(low))
