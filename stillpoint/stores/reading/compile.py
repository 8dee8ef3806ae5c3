"""Compiles a registry into a read plan, and computes the digest of its definitions.

Works on the registry's protobuf: a live registry, a `feast.FeatureStore`, or the bytes of a frozen `registry.pb`. Code that
is stored in the registry is never run.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from feast import FeatureStore
from feast.protos.feast.core.Registry_pb2 import Registry
from feast.value_type import ValueType as FeastValueType
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from stillpoint.errors import CorruptData, PlanRefused
from stillpoint.stores.reading.plan import OnDemand, ReadPlan, Selection
from stillpoint.stores.redis.layout import ENTITYLESS_KEY, Column, ViewLayout
from stillpoint.stores.values.types import ValueType

FUNCTION_TAG = "stillpoint.function"
"""Tag of an on-demand view with the name of its registered pure function."""


def compile_plan(source: Any, project: str | None = None) -> ReadPlan:
    """Compile the read plan of one project from a `FeatureStore`, a Feast registry, or a registry's bytes.

    `project` may be omitted for a `FeatureStore`, or if the registry holds one project. Views that are not online are
    omitted from the plan.

    Raises:
        PlanRefused: two features share a hash field, a view is versioned or disabled, a key or feature has a type that
            Redis cannot hold, a service names a view that is missing; the text names it.
        CorruptData: the bytes are not a registry.
    """
    registry = registry_proto(source)
    if project is None:
        project = source.project if isinstance(source, FeatureStore) else _only_project(registry)
    entities = {item.spec.name: item.spec for item in registry.entities if item.spec.project == project}
    views = []
    offline: set[str] = set()
    for item in (*registry.feature_views, *registry.stream_feature_views):
        spec = item.spec
        if spec.project != project:
            continue
        if not spec.online or spec.disabled:
            offline.add(spec.name)
            continue
        if spec.version.strip() not in ("", "latest"):
            raise PlanRefused(
                f"feature view {spec.name} is pinned to version {spec.version!r}; a read plan holds no versions: "
                "use a new view name for a new definition"
            )
        views.append(_view(spec, entities))
    on_demand = tuple(
        _on_demand(item.spec) for item in registry.on_demand_feature_views if item.spec.project == project
    )
    computed = {item.name for item in on_demand}
    services: dict[str, tuple[Selection, ...]] = {}
    on_demand_services: dict[str, tuple[Selection, ...]] = {}
    known = {view.name for view in views}
    for item in registry.feature_services:
        spec = item.spec
        if spec.project != project:
            continue
        parts = []
        computed_parts = []
        for projection in spec.features:
            name = projection.feature_view_name
            if name in computed:
                computed_parts.append(_selection(projection))
                continue
            if name not in known:
                why = "is not online" if name in offline else "does not exist"
                raise PlanRefused(f"feature service {spec.name} uses feature view {name}, which {why}")
            if projection.HasField("version_tag"):
                raise PlanRefused(
                    f"feature service {spec.name} uses version {projection.version_tag} of {name}; "
                    "a read plan holds no versions"
                )
            parts.append(_selection(projection))
        services[spec.name] = tuple(parts)
        if computed_parts:
            on_demand_services[spec.name] = tuple(computed_parts)
    return ReadPlan(
        project=project,
        views=tuple(sorted(views, key=lambda view: view.name)),
        services=services,
        on_demand=tuple(sorted(on_demand, key=lambda view: view.name)),
        on_demand_services=on_demand_services,
    )


def view_layout(view: Any) -> ViewLayout:
    """Return the layout of a Feast FeatureView that has been applied (its entity columns carry the key types)."""
    ttl = view.ttl
    return ViewLayout(
        name=view.name,
        join_keys=tuple(
            Column(column.name, _type(column.dtype.to_value_type().value, f"{view.name}, join key {column.name}"))
            for column in view.entity_columns
        ),
        features=tuple(
            Column(field.name, _type(field.dtype.to_value_type().value, f"{view.name}:{field.name}"))
            for field in view.features
        ),
        max_age_us=round(ttl.total_seconds() * 1_000_000) if ttl else None,
    )


def definitions_sha256(source: Any, project: str | None = None) -> str:
    """Return the digest of a project's definitions: entities, sources, views, services.

    Timestamps, states, materialization intervals and the project's name are left out. So applying the same definitions
    again, or materializing, does not change the digest, and two colours with the same definitions have the same one.
    """
    registry = registry_proto(source)
    if project is None:
        project = source.project if isinstance(source, FeatureStore) else _only_project(registry)
    document = {
        kind: sorted(
            (_canonical(spec) for spec in specs if spec.project == project),
            key=lambda item: json.dumps(item, sort_keys=True),
        )
        for kind, specs in (
            ("entities", [item.spec for item in registry.entities]),
            ("data_sources", list(registry.data_sources)),
            ("feature_views", [item.spec for item in registry.feature_views]),
            ("stream_feature_views", [item.spec for item in registry.stream_feature_views]),
            ("on_demand_feature_views", [item.spec for item in registry.on_demand_feature_views]),
            ("feature_services", [item.spec for item in registry.feature_services]),
        )
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def registry_proto(source: Any) -> Any:
    """Return the protobuf of a `FeatureStore`, a Feast registry, or a registry's bytes."""
    if isinstance(source, Registry):
        return source
    if isinstance(source, bytes):
        try:
            return Registry.FromString(source)
        except DecodeError as error:
            raise CorruptData(f"these bytes are no Feast registry: {error}") from None
    return (source.registry if isinstance(source, FeatureStore) else source).proto()


_STAMPS = {"meta", "project", "body"}  # `body` is a pickle that differs between processes; `body_text` is its source


def _canonical(spec: Any) -> Any:
    return _without_stamps(MessageToDict(spec, preserving_proto_field_name=True))


def _without_stamps(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_stamps(item) for key, item in value.items() if key not in _STAMPS}
    if isinstance(value, list):
        return [_without_stamps(item) for item in value]
    return value


def _only_project(registry: Any) -> str:
    names = {item.spec.project for item in (*registry.feature_views, *registry.stream_feature_views)}
    if len(names) != 1:
        raise PlanRefused(f"the registry holds the projects {', '.join(sorted(names)) or 'none'}; say which one")
    return str(names.pop())


def _view(spec: Any, entities: dict[str, Any]) -> ViewLayout:
    if spec.entity_columns:
        keys: Sequence[Column] = _columns(spec.entity_columns, spec.name)
    else:
        keys = [
            Column(
                entities[name].join_key if name in entities else ENTITYLESS_KEY,
                _type(entities[name].value_type, f"{spec.name}, entity {name}")
                if name in entities
                else ValueType.STRING,
            )
            for name in spec.entities
        ]
    micros = spec.ttl.seconds * 1_000_000 + spec.ttl.nanos // 1000
    return ViewLayout(spec.name, tuple(keys), _columns(spec.features, spec.name), micros or None)


def _columns(items: Iterable[Any], where: str) -> tuple[Column, ...]:
    return tuple(Column(item.name, _type(item.value_type, f"{where}:{item.name}")) for item in items)


def _type(number: int, where: str) -> ValueType:
    name = FeastValueType(number).name
    try:
        return ValueType(name)
    except ValueError:
        raise PlanRefused(f"{where} has type {name}, which cannot be stored; declare a type") from None


def _selection(projection: Any) -> Selection:
    return Selection(
        view=projection.feature_view_name,
        features=tuple(column.name for column in projection.feature_columns),
        shown_as=projection.feature_view_name_alias or projection.feature_view_name,
        join_keys=tuple(sorted(projection.join_key_map.items())),
    )


def _on_demand(spec: Any) -> OnDemand:
    sources = []
    request: list[Column] = []
    for _, source in sorted(spec.sources.items()):
        if source.HasField("feature_view_projection"):
            sources.append(_selection(source.feature_view_projection))
        elif source.HasField("request_data_source"):
            request += _columns(source.request_data_source.request_data_options.schema, spec.name)
    return OnDemand(
        name=spec.name,
        features=_columns(spec.features, spec.name),
        sources=tuple(sources),
        request=tuple(request),
        function=spec.tags.get(FUNCTION_TAG),
    )
