"""How does Feast's `/get-online-features` look as a read of ours, and back?

Pure: `parse_request` → a read of `OnlineReader` or `AsyncOnlineReader` → `to_response`. The JSON is Feast's feature
server's, so a stock `feast.FeatureStore` with `online_store: {type: remote, path: …}` works against it.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.errors import CorruptData, InvalidInput
from stillpoint.stores.answer import ABSENT_US, Mode, Status
from stillpoint.stores.columns import OnlineColumns
from stillpoint.stores.corrupt import corrupt_value
from stillpoint.stores.on_demand import Computed, OnDemandFunction, computed_of, moment_of, sources_of
from stillpoint.stores.plan import ReadPlan, Selection, request_keys
from stillpoint.stores.values_decode import read_value
from stillpoint.stores.values_python import zoned_time
from stillpoint.stores.values_types import KEY_TYPES, NULL_TIMESTAMP, ValueType

_KNOWN = {"entities", "features", "feature_service", "full_feature_names", "include_feature_view_version_metadata"}


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """What to read: pass `features` and `entities` to a reader's `read`. `selections` are the stored features to show."""

    features: str | tuple[Selection, ...]
    entities: dict[str, list[Any]]
    full_names: bool
    version_metadata: bool
    selections: tuple[Selection, ...]
    computed: tuple[Computed, ...]
    moment: dict[str, list[Any]]


def parse_request(
    plan: ReadPlan, body: Any, functions: Mapping[str, OnDemandFunction] = MappingProxyType({})
) -> FeatureRequest:
    """Check a request's JSON against the plan. Entity columns that no view needs are dropped, as Feast does.

    `functions` are ours for on-demand views, by the name that the registry's tag gives.

    Raises:
        InvalidInput: names the field that is missing or malformed.
        UnknownFeature: names the service, view or feature that the project does not have.
        PlanRefused: an on-demand view whose function is not among `functions`, by name.
    """
    if not isinstance(body, Mapping):
        raise InvalidInput('the body is not a JSON object; expected {"entities": {…}, "features": […]}')
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        raise InvalidInput(f"unknown field {', '.join(unknown)}; a request has {', '.join(sorted(_KNOWN))}")
    entities = body.get("entities")
    if not isinstance(entities, Mapping) or not all(isinstance(values, list) for values in entities.values()):
        raise InvalidInput("entities: expected an object of lists, one list of values per join key")
    service, references = body.get("feature_service"), body.get("features") or []
    if service is None and not references:
        raise InvalidInput("features: name features or a feature_service")
    if service is not None and not isinstance(service, str):
        raise InvalidInput(f"feature_service: expected a name, found {service!r}")
    if not isinstance(references, list) or not all(isinstance(item, str) and ":" in item for item in references):
        raise InvalidInput('features: expected a list of "view:feature"')
    asked: str | list[str] = service if service is not None else references
    computed = computed_of(plan, asked, functions)
    on_demand = {view.name for view in plan.on_demand}
    selections = (
        plan.services.get(service, ())
        if isinstance(service, str) and computed
        else plan.select(
            asked if isinstance(asked, str) else [item for item in asked if item.partition(":")[0] not in on_demand]
        )
    )
    read = sources_of(computed, selections) if computed else selections
    full_names = _flag(body, "full_feature_names")
    if not full_names:
        _refuse_same_names((*selections, *(_shown(one) for one in computed)))
    return FeatureRequest(
        features=read if computed or service is None else service,
        entities=_entities(plan, read, entities),
        full_names=full_names,
        version_metadata=_flag(body, "include_feature_view_version_metadata"),
        selections=selections,
        computed=computed,
        moment=moment_of(computed, dict(entities)),
    )


def to_response(request: FeatureRequest, columns: OnlineColumns) -> dict[str, Any]:
    """Return Feast's response JSON for what a reader answered; in compat mode Feast's very values and statuses."""
    names: list[str] = []
    results: list[dict[str, Any]] = []
    for name, values in columns.entities.items():
        names.append(name)
        results.append(
            {
                "values": [_key_json(value) for value in values],
                "statuses": ["PRESENT"] * columns.rows,
                "event_timestamps": ["1970-01-01T00:00:00Z"] * columns.rows,
            }
        )
    shown = {f"{part.shown_as}__{name}" for part in request.selections for name in part.features}
    times = _times(columns, [part.shown_as for part in request.selections])
    for place, (full, short) in enumerate(zip(columns.full_names, columns.names, strict=True)):
        if full not in shown:
            continue  # read for an on-demand view only
        names.append(full if request.full_names else short)
        results.append(
            {
                "values": _values(columns, place),
                "statuses": [_STATUS[code] for code in columns.status(full).tolist()],
                "event_timestamps": times[full[: -len(short) - 2]],
            }
        )
    for one in request.computed:
        for short, values in one.values(columns, request.moment).items():
            names.append(f"{one.shown_as}__{short}" if request.full_names else short)
            results.append(
                {
                    "values": values,
                    "statuses": ["PRESENT"] * columns.rows,
                    "event_timestamps": ["1970-01-01T00:00:00Z"] * columns.rows,
                }
            )
    metadata: dict[str, Any] = {"feature_names": names}
    if request.version_metadata:
        shown_views = (*request.selections, *(_shown(one) for one in request.computed))
        metadata["feature_view_metadata"] = [{"name": part.shown_as} for part in shown_views]
    return {"results": results, "metadata": metadata}


def _shown(one: Computed) -> Selection:
    return Selection(one.view.name, one.features, one.shown_as)


_STATUS = {
    int(Status.PRESENT): "PRESENT",
    int(Status.NULL_VALUE): "NULL_VALUE",
    int(Status.NOT_FOUND): "NOT_FOUND",
    # withheld: Feast's remote client would read OUTSIDE_MAX_AGE as a value
    int(Status.OUTSIDE_MAX_AGE): "NOT_FOUND",
}


def _values(columns: OnlineColumns, place: int) -> list[Any]:
    if columns.is_plain(place):
        return columns.values(columns.full_names[place])
    view, feature, keys, stored, rows = columns.stored(place)
    shown = []
    for key, data in zip(keys, stored, strict=True):
        try:
            parsed = read_value(data) if data else None
            shown.append(None if parsed is None else to_json(*parsed))
        except (CorruptData, ValueError, OverflowError, OSError) as error:
            raise corrupt_value(view, feature, key, str(error)) from None
    placed = shown if rows is None else [shown[row] for row in rows]
    if columns.mode is Mode.COMPAT:
        return placed
    present = columns.status(columns.full_names[place]) == Status.PRESENT
    return [value if there else None for value, there in zip(placed, present.tolist(), strict=True)]


def to_json(type: ValueType, raw: Any) -> Any:
    """Return a parsed value as Feast's feature server writes it: bytes as base64, times as seconds, sets as lists."""
    if type in (ValueType.DOUBLE, ValueType.FLOAT):
        return _number(raw)
    if type in _FLOATS:
        return [_number(item) for item in raw]
    if type is ValueType.BYTES:
        return base64.b64encode(raw).decode()
    if type in (ValueType.BYTES_LIST, ValueType.BYTES_SET):
        return [base64.b64encode(item).decode() for item in raw]
    if type in (ValueType.MAP, ValueType.STRUCT):
        return {key: _nested(item) for key, item in raw.items()}
    if type in (ValueType.MAP_LIST, ValueType.STRUCT_LIST):
        return [{key: _nested(item) for key, item in part.items()} for part in raw]
    if type in (ValueType.VALUE_LIST, ValueType.VALUE_SET):
        return [_nested(item) for item in raw]
    if type is ValueType.SCALAR_MAP:
        return None  # as Feast 0.67: it has no JSON form for keys that are not text
    if type is ValueType.ZONED_TIMESTAMP:
        moment = zoned_time(*raw)
        return None if moment is None else moment.isoformat()
    return raw


_FLOATS = {ValueType.DOUBLE_LIST, ValueType.FLOAT_LIST, ValueType.DOUBLE_SET, ValueType.FLOAT_SET}


def _nested(parsed: tuple[ValueType, Any] | None) -> Any:
    return None if parsed is None else to_json(*parsed)


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _times(columns: OnlineColumns, views: Sequence[str]) -> dict[str, list[str]]:
    """Return each view's event times as text; all at once, as there are many views and few rows."""
    if not views:
        return {}
    texts = time_texts(np.concatenate([columns.event_us(view) for view in views]))
    return {view: texts[place * columns.rows : (place + 1) * columns.rows] for place, view in enumerate(views)}


def time_texts(micros: npt.NDArray[np.int64]) -> list[str]:
    """Return times as protobuf's JSON has them: 0, 3 or 6 digits of a second."""
    known = np.where(micros == ABSENT_US, 0, micros)
    texts = np.datetime_as_string(known.astype("datetime64[us]")).tolist()
    lengths = np.where(known % 1_000_000 == 0, 19, np.where(known % 1_000 == 0, 23, 26)).tolist()
    return [f"{text[:length]}Z" for text, length in zip(texts, lengths, strict=True)]


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}: expected true or false, found {value!r}")
    return value


def _refuse_same_names(selections: Sequence[Selection]) -> None:
    seen: dict[str, str] = {}
    for selection in selections:
        for feature in selection.features:
            other = seen.setdefault(feature, selection.shown_as)
            if other != selection.shown_as:
                raise InvalidInput(
                    f"features: {feature} is in {other} and in {selection.shown_as}; set full_feature_names to true"
                )


def _entities(plan: ReadPlan, selections: Sequence[Selection], given: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    types = {
        name: column.type
        for selection in selections
        for column, name in request_keys(plan.view(selection.view), selection)
        if name is not None
    }
    missing = sorted(set(types) - set(given))
    if missing:
        raise InvalidInput(
            f"entities: join key {', '.join(missing)} is missing; given were {', '.join(given) or 'none'}"
        )
    return {name: _typed(name, values, types[name]) for name, values in given.items() if name in types}


def _typed(name: str, values: list[Any], type: ValueType) -> list[Any]:
    assert type in KEY_TYPES
    for row, value in enumerate(values):
        if value is None:
            raise InvalidInput(f"entities.{name}: value {row} is null; an entity needs a key")
    try:
        if type is ValueType.STRING:
            return [str(value) for value in values]
        if type is ValueType.BYTES:
            return [value if isinstance(value, bytes) else base64.b64decode(value, validate=True) for value in values]
        return [_whole(value) for value in values]
    except (TypeError, ValueError):
        raise InvalidInput(f"entities.{name}: a value is not of type {type}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value):
        raise ValueError
    return NULL_TIMESTAMP if value is None else int(value)


def _key_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
