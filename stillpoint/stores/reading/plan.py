"""The read plan: everything that an online reader must know of a project.

A read plan is a small JSON document compiled from a registry: the views with their join keys, hash fields, types and
time-to-live, and the services with the order of their columns. `OnlineReader` executes it without importing Feast.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stillpoint.app.feature_set import FeatureSet
from stillpoint.errors import CorruptData, PlanRefused, UnknownFeature
from stillpoint.stores.redis.layout import ENTITYLESS_KEY, Column, ViewLayout, feature_field
from stillpoint.stores.values.types import ValueType

FORMAT = 1


def fill_marker_key(project: str) -> str:
    """Return the Redis key of a project's fill marker: which id mapping the project holds, and whether its fill is complete.

    >>> fill_marker_key("stillpoint_green")
    'stillpoint:sentinel:stillpoint_green'
    """
    return f"stillpoint:sentinel:{project}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Features of one view, as a service or a request shows them.

    `shown_as` is the view's name in full column names (Feast's name alias); `join_keys` maps a join key of the view to
    the name under which the request gives it, where the two differ.
    """

    view: str
    features: tuple[str, ...]
    shown_as: str
    join_keys: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OnDemand:
    """An on-demand view; `function` names a registered pure function, None means that it has none and is refused."""

    name: str
    features: tuple[Column, ...]
    sources: tuple[Selection, ...]
    request: tuple[Column, ...]
    function: str | None


Part = Selection | OnDemand


@dataclass(frozen=True)
class ReadPlan:
    """All views and services of one project. Compare and pin plans by `sha256`.

    `services` are the stored features of each service, `on_demand_services` the computed ones of those that have any.
    """

    project: str
    views: tuple[ViewLayout, ...]
    services: dict[str, tuple[Selection, ...]] = field(default_factory=dict)
    on_demand: tuple[OnDemand, ...] = ()
    on_demand_services: dict[str, tuple[Selection, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse_collisions(self.views)

    @classmethod
    def of_features(cls, project: str, features: FeatureSet) -> "ReadPlan":
        """Return the plan of an app's features, without a registry: what compiling its registry gives, without the
        on-demand view."""
        return cls(
            project=project,
            views=tuple(ViewLayout.of(view) for view in features.views),
            services={
                name: tuple(Selection(view.name, view.feature_names, view.name) for view in members)
                for name, members in features.services.items()
            },
        )

    @cached_property
    def _by_name(self) -> dict[str, ViewLayout]:
        return {view.name: view for view in self.views}

    def view(self, name: str) -> ViewLayout:
        """Return a view's layout.

        Raises:
            UnknownFeature: the plan has no such view.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise UnknownFeature(f"project {self.project} has no feature view {name!r}; it has {known}") from None

    def select(self, features: str | Sequence[str]) -> tuple[Selection, ...]:
        """Resolve a service's name, or a list of `view:feature` and `view` (all its features), in the order given.

        Raises:
            UnknownFeature: names the service, view or feature that the plan does not have.
            PlanRefused: an on-demand view is named; its inputs can be read, but it is computed elsewhere.
        """
        if isinstance(features, str):
            if features in self.on_demand_services:
                names = ", ".join(part.view for part in self.on_demand_services[features])
                raise PlanRefused(
                    f"feature service {features!r} has on-demand feature views ({names}): ask for its stored features, or "
                    "through the feature server"
                )
            try:
                return self.services[features]
            except KeyError:
                known = ", ".join(sorted(self.services)) or "none"
                raise UnknownFeature(
                    f"project {self.project} has no feature service {features!r}; it has {known}"
                ) from None
        chosen: dict[str, list[str]] = {}
        for reference in features:
            name, colon, feature = reference.partition(":")
            if any(item.name == name for item in self.on_demand):
                raise PlanRefused(
                    f"{reference}: {name} is an on-demand feature view; ask for its sources, or through the feature server"
                )
            view = self.view(name)
            known_features = [column.name for column in view.features]
            if colon and feature not in known_features:
                raise UnknownFeature(
                    f"feature view {name!r} has no feature {feature!r}; it has {', '.join(known_features)}"
                )
            wanted = chosen.setdefault(name, [])
            wanted.extend(item for item in ([feature] if colon else known_features) if item not in wanted)
        return tuple(Selection(name, tuple(names), name) for name, names in chosen.items())

    def to_document(self) -> dict[str, Any]:
        """Return the plan as JSON-ready data."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "project": self.project,
            "sentinel": fill_marker_key(self.project),
            "views": [
                {
                    "name": view.name,
                    "join_keys": _columns(view.join_keys),
                    "max_age_us": view.max_age_us,
                    "features": [
                        {"name": column.name, "type": str(column.type), "field": hash_field.hex()}
                        for column, hash_field in zip(view.features, view.fields, strict=True)
                    ],
                }
                for view in self.views
            ],
            "services": _services(self.services),
            "on_demand": [
                {
                    "name": item.name,
                    "features": _columns(item.features),
                    "sources": [_selection(part) for part in item.sources],
                    "request": _columns(item.request),
                    "function": item.function,
                }
                for item in self.on_demand
            ],
        }
        if self.on_demand_services:  # plans without any keep the digest that releases know
            document["on_demand_services"] = _services(self.on_demand_services)
        return document

    def to_json(self) -> bytes:
        """Return the canonical bytes of the plan: what `sha256` digests and a release stores."""
        return (json.dumps(self.to_document(), indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json()).hexdigest()

    @classmethod
    def from_json(cls, data: bytes | str, *, expected_sha256: str | None = None) -> "ReadPlan":
        """Parse a stored plan.

        Raises:
            CorruptData: it is not a read plan of this format, a hash field does not match its name, or the digest differs.
        """
        try:
            document = json.loads(data)
            if document["format"] != FORMAT:
                raise CorruptData(f"a read plan of format {document['format']}; this code reads format {FORMAT}")
            views = tuple(_parse_view(view) for view in document["views"])
            plan = cls(
                project=document["project"],
                views=views,
                services=_parse_services(document["services"]),
                on_demand_services=_parse_services(document.get("on_demand_services", {})),
                on_demand=tuple(
                    OnDemand(
                        name=item["name"],
                        features=_parse_columns(item["features"]),
                        sources=tuple(_parse_selection(part) for part in item["sources"]),
                        request=_parse_columns(item["request"]),
                        function=item["function"],
                    )
                    for item in document["on_demand"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"this is no read plan: {error!r}") from None
        if expected_sha256 is not None and plan.sha256 != expected_sha256:
            raise CorruptData(f"the read plan has sha256 {plan.sha256}; expected {expected_sha256}")
        return plan


def refuse_collisions(views: Sequence[ViewLayout]) -> None:
    """Refuse two features that would lie in the same field of the same Redis hash.

    Raises:
        PlanRefused: names both features; renaming one of them solves it.
    """
    seen: dict[tuple[tuple[str, ...], bytes], str] = {}
    for view in views:
        keys = tuple(column.name for column in view.sorted_join_keys)
        for hash_field, label in _fields(view):
            other = seen.setdefault((keys, hash_field), label)
            if other != label:
                raise PlanRefused(
                    f"{label} and {other} have the same 4-byte hash field {hash_field.hex()} and the same entity, so one "
                    "would overwrite the other in Redis; rename one of them"
                )


def _fields(view: ViewLayout) -> Iterator[tuple[bytes, str]]:
    for column, hash_field in zip(view.features, view.fields, strict=True):
        yield hash_field, f"feature {view.name}:{column.name}"


def _columns(columns: Sequence[Column]) -> list[dict[str, str]]:
    return [{"name": column.name, "type": str(column.type)} for column in columns]


def _parse_columns(items: list[dict[str, str]]) -> tuple[Column, ...]:
    return tuple(Column(item["name"], ValueType(item["type"])) for item in items)


def _selection(part: Selection) -> dict[str, Any]:
    return {
        "view": part.view,
        "features": list(part.features),
        "shown_as": part.shown_as,
        "join_keys": dict(part.join_keys),
    }


def _services(services: dict[str, tuple[Selection, ...]]) -> dict[str, Any]:
    return {name: [_selection(part) for part in parts] for name, parts in sorted(services.items())}


def _parse_services(document: dict[str, Any]) -> dict[str, tuple[Selection, ...]]:
    return {name: tuple(_parse_selection(part) for part in parts) for name, parts in document.items()}


def _parse_selection(item: dict[str, Any]) -> Selection:
    return Selection(item["view"], tuple(item["features"]), item["shown_as"], tuple(item["join_keys"].items()))


def _parse_view(item: dict[str, Any]) -> ViewLayout:
    for feature in item["features"]:
        expected = feature_field(item["name"], feature["name"]).hex()
        if feature["field"] != expected:
            raise CorruptData(
                f"read plan: feature {item['name']}:{feature['name']} has field {feature['field']}; expected {expected}"
            )
    return ViewLayout(
        name=item["name"],
        join_keys=_parse_columns(item["join_keys"]),
        features=_parse_columns(item["features"]),
        max_age_us=item["max_age_us"],
    )


def request_keys(view: ViewLayout, selection: Selection) -> tuple[tuple[Column, str | None], ...]:
    """Return each join key of a view, sorted by name, with the name under which a request gives it.

    None means that the request does not give it: the constant key of a view without entities.
    """
    renamed = dict(selection.join_keys)
    return tuple(
        (column, None if column.name == ENTITYLESS_KEY else renamed.get(column.name, column.name))
        for column in view.sorted_join_keys
    )
