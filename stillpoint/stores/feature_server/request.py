"""Parses requests to Feast's `/get-online-features` into reads of `OnlineReader`.

Pure: `RequestParser.parse` → a read of `OnlineReader` or `AsyncOnlineReader` → `feature_response.to_response`. The JSON is
Feast's feature server's, so a stock `feast.FeatureStore` with `online_store: {type: remote, path: …}` works against it.
Clients ask for the same features again and again, so everything that does not depend on the entities is cached.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from stillpoint.errors import InvalidInput
from stillpoint.excerpt import LENGTH, excerpt
from stillpoint.stores.feature_server.on_demand import (
    OnDemandFunction,
    RequestedOnDemandView,
    computed_of,
    moment_of,
    sources_of,
)
from stillpoint.stores.reading.plan import ReadPlan, Selection, request_keys
from stillpoint.stores.redis.keys import requested_keys
from stillpoint.stores.redis.layout import Column
from stillpoint.stores.values.types import ValueType

_KNOWN = {"entities", "features", "feature_service", "full_feature_names", "include_feature_view_version_metadata"}
_KEPT = 1024
"""Number of different feature lists that are cached."""


@dataclass(frozen=True, slots=True)
class RequestedFeatures:
    """Features asked for, whatever the entities: `read` is what a reader reads for them, `selections` and `computed` are
    the stored and the on-demand features to show, `key_types` the types of the join keys."""

    read: str | tuple[Selection, ...]
    selections: tuple[Selection, ...]
    computed: tuple[RequestedOnDemandView, ...]
    key_types: Mapping[str, ValueType]

    @property
    def shown(self) -> tuple[Selection, ...]:
        return (*self.selections, *(Selection(one.view.name, one.features, one.shown_as) for one in self.computed))


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """A parsed request: pass `requested.read` and `entities` to a reader's `read`. `moment` holds the request's own columns,
    as inputs of on-demand functions."""

    requested: RequestedFeatures
    entities: dict[str, list[Any]]
    moment: dict[str, list[Any]]
    full_names: bool
    version_metadata: bool


class RequestParser:
    """Parses requests for the features of one plan; for one thread or event loop."""

    def __init__(self, plan: ReadPlan, functions: Mapping[str, OnDemandFunction] = MappingProxyType({})) -> None:
        """`functions` are the registered pure functions of on-demand views, by the name in the registry's tag."""
        self._plan = plan
        self._functions = functions
        self._requested: dict[tuple[str | tuple[str, ...], bool], RequestedFeatures] = {}

    def parse(self, body: Any) -> FeatureRequest:
        """Check a request's JSON against the plan. Entity columns that no view needs are dropped, as Feast does.

        Raises:
            InvalidInput: names the field that is missing or malformed.
            UnknownFeature: names the service, view or feature that the project does not have.
            PlanRefused: names an on-demand view whose function is not a registered one.
        """
        if not isinstance(body, Mapping):
            raise InvalidInput('the body is not a JSON object; expected {"entities": {…}, "features": […]}')
        if not _KNOWN.issuperset(body):
            unknown = ", ".join(sorted(set(body) - _KNOWN))[:LENGTH]
            raise InvalidInput(f"unknown field {unknown}; a request has {', '.join(sorted(_KNOWN))}")
        entities = body.get("entities")
        if not isinstance(entities, Mapping) or not all(isinstance(values, list) for values in entities.values()):
            raise InvalidInput("entities: expected an object of lists, one list of values per join key")
        full_names = _flag(body, "full_feature_names")
        key = (_features(body), full_names)
        requested = self._requested.get(key)
        if requested is None:
            requested = self._work_out(*key)
            if len(self._requested) >= _KEPT:
                self._requested.clear()  # requests with ever new lists of features must not fill the memory
            self._requested[key] = requested
        keys, moment = _entities(requested.key_types, entities), moment_of(requested.computed, entities)
        _refuse_unequal(keys | moment)
        return FeatureRequest(
            requested=requested,
            entities=keys,
            moment=moment,
            full_names=full_names,
            version_metadata=_flag(body, "include_feature_view_version_metadata"),
        )

    def _work_out(self, features: str | tuple[str, ...], full_names: bool) -> RequestedFeatures:
        plan = self._plan
        computed = computed_of(plan, features, self._functions)
        if isinstance(features, str):
            selections = plan.services.get(features, ()) if computed else plan.select(features)
        else:
            on_demand = {view.name for view in plan.on_demand}
            selections = plan.select([one for one in features if one.partition(":")[0] not in on_demand])
        read = sources_of(computed, selections) if computed else selections
        requested = RequestedFeatures(
            read=features if isinstance(features, str) and not computed else read,
            selections=selections,
            computed=computed,
            key_types={
                name: column.type
                for selection in read
                for column, name in request_keys(plan.view(selection.view), selection)
                if name is not None
            },
        )
        if not full_names:
            _refuse_same_names(requested.shown)
        return requested


def _features(body: Mapping[str, Any]) -> str | tuple[str, ...]:
    service, references = body.get("feature_service"), body.get("features") or []
    if service is not None:
        if not isinstance(service, str):
            raise InvalidInput(f"feature_service: expected a name, found {excerpt(service)}")
        return service
    if not references:
        raise InvalidInput("features: name features or a feature_service")
    if not isinstance(references, list) or not all(isinstance(item, str) and ":" in item for item in references):
        raise InvalidInput('features: expected a list of "view:feature"')
    return tuple(references)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise InvalidInput(f"{name}: expected true or false, found {excerpt(value)}")
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


def _entities(types: Mapping[str, ValueType], given: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    missing = sorted(types.keys() - given.keys())
    if missing:
        raise InvalidInput(
            f"entities: join key {', '.join(missing)} is missing; given were {', '.join(given)[:LENGTH] or 'none'}"
        )
    return {name: _typed(name, values, types[name]) for name, values in given.items() if name in types}


def _refuse_unequal(columns: Mapping[str, list[Any]]) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{count} of {name}" for name, count in lengths.items())
        raise InvalidInput(f"entities: all join keys need equally many values; found {found}")


def _typed(name: str, values: list[Any], type: ValueType) -> list[Any]:
    """Return the values of a join key in its type, bytes from base64."""
    column = Column(name, type)
    try:
        return _keys(column, values)
    except (TypeError, ValueError, InvalidInput):
        pass
    for row, value in enumerate(values):
        if value is None:
            raise InvalidInput(f"entities.{name}: value {row} is null; an entity needs a key")
        try:
            _keys(column, [value])
        except (TypeError, ValueError, InvalidInput):
            raise InvalidInput(
                f"entities.{name}: a value is not of type {type}: value {row} is {excerpt(value)}"
            ) from None
    raise AssertionError("values that failed together fail alone")


def _keys(column: Column, values: list[Any]) -> list[Any]:
    if column.type is ValueType.BYTES:
        return [value if isinstance(value, bytes) else base64.b64decode(value, validate=True) for value in values]
    return requested_keys(column, values, "any")
