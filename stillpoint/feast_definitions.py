"""Feast's entities, sources, views and services, derived from an app's declarations."""

from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.pandas_transformation import PandasTransformation
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String

from stillpoint.app import entities
from stillpoint.app.feature_set import FeatureSet
from stillpoint.app.records import Origin, View
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.features.on_demand import ON_DEMAND_VIEW, request_time_frame
from stillpoint.features.request_time import REQUEST_TIMESTAMP
from stillpoint.lake.datasets import feature_dataset
from stillpoint.stores.reading.compile import FUNCTION_TAG

_TYPES: dict[DType, FeastType] = {
    DType.INT64: Int64,
    DType.FLOAT64: Float64,
    DType.BOOL: Bool,
    DType.STRING: String,
    DType.EMBEDDING: Array(Float32),
    DType.STRINGS: Array(String),
    DType.INT64S: Array(Int64),
    DType.FLOAT64S: Array(Float64),
}

Definition: TypeAlias = Entity | FileSource | PushSource | FeatureView | OnDemandFeatureView | FeatureService


@dataclass(frozen=True, slots=True)
class Definitions:
    """Everything that one Feast project holds. Pass `all()` to `FeatureStore.apply`."""

    entities: dict[str, Entity]
    sources: dict[str, FileSource | PushSource]
    views: dict[str, FeatureView]
    on_demand: OnDemandFeatureView | None
    services: dict[str, FeatureService]

    def all(self) -> list[Definition]:
        """Return the objects in the order in which Feast can register them."""
        stored = (*self.entities.values(), *self.sources.values(), *self.views.values())
        computed = () if self.on_demand is None else (self.on_demand,)
        return [*stored, *computed, *self.services.values()]

    def named(self) -> dict[str, Definition]:
        """Return the objects under names that are unique across their kinds, as a module's attributes must be."""
        return {
            **{f"{name}_entity": entity for name, entity in self.entities.items()},
            **{f"{name}_source": source for name, source in self.sources.items()},
            **{f"{name}_view": view for name, view in self.views.items()},
            **({} if self.on_demand is None else {f"{self.on_demand.name}_view": self.on_demand}),
            **{f"{name}_service": service for name, service in self.services.items()},
        }


def define(features: FeatureSet, *, lake_root: str, mapping_version: int) -> Definitions:
    """Derive a project's definitions from an app's features.

    Every view reads the lake below `lake_root`; `user_sequence` reads the mapping of that one version, so that no
    project can load another's. A streamed view can be pushed to under the name `<view>_push`.
    """
    keys = {entity.name: [_key(entity, key) for key in entity.keys] for entity in features.entities}
    sources: dict[str, FileSource | PushSource] = {}
    views: dict[str, FeatureView] = {}
    for view in features.views:
        batch = FileSource(
            name=f"{view.name}_lake",
            path=f"{lake_root.rstrip('/')}/{feature_dataset(view, mapping_version)}",
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
            description=view.description,
        )
        sources[batch.name] = batch
        source: FileSource | PushSource = batch
        if view.origin is Origin.STREAMED:
            source = PushSource(name=f"{view.name}_push", batch_source=batch)
            sources[source.name] = source
        views[view.name] = _feature_view(view, keys[view.entity.name], source)
    services = {
        name: FeatureService(name=name, features=[views[view.name] for view in members])
        for name, members in features.services.items()
    }
    entities = {key.name: key for own in keys.values() for key in own}
    return Definitions(entities, sources, views, _on_demand_view(features, views), services)


def _key(entity: entities.Entity, key: str) -> Entity:
    """Return the Feast entity of one key: a Feast entity has one, so that a pair of ids becomes two."""
    name = entity.name if len(entity.keys) == 1 else key.removesuffix("_id")
    return Entity(name=name, join_keys=[key], value_type=ValueType.STRING)


def _feature_view(view: View, keys: list[Entity], source: FileSource | PushSource) -> FeatureView:
    return FeatureView(
        name=view.name,
        entities=keys,
        ttl=view.ttl,
        schema=[
            *(Field(name=key, dtype=String) for key in view.entity.keys),
            *(
                Field(
                    name=feature.name,
                    dtype=_TYPES[feature.dtype],
                    description=feature.description,
                    tags={"unit": feature.unit}
                    | ({"null_when": feature.null_when} if feature.null_when else {})
                    | ({"length": str(EMBEDDING_LENGTH)} if feature.dtype is DType.EMBEDDING else {}),
                )
                for feature in view
            ),
        ],
        source=source,
        online=True,
        description=view.description,
        tags={"origin": view.origin.value},
    )


def _on_demand_view(features: FeatureSet, views: dict[str, FeatureView]) -> OnDemandFeatureView | None:
    """Return the request-time features as Feast computes them, from our function.

    Feast rebuilds the function from its text, in whatever process reads the registry: the text imports ours.
    """
    if not features.on_demand:
        return None
    text = (
        f"def {_request_time.__name__}(frame):\n"
        f"    from {request_time_frame.__module__} import {request_time_frame.__name__}\n"
        f"    return {request_time_frame.__name__}(frame)\n"
    )
    moment = RequestSource(name="request", schema=[Field(name=REQUEST_TIMESTAMP, dtype=Int64)])
    return OnDemandFeatureView(
        name=ON_DEMAND_VIEW,
        # Feast compares these with what it infers from the function: a description or a tag would be a difference.
        schema=[Field(name=one.feature.name, dtype=_TYPES[one.feature.dtype]) for one in features.on_demand],
        sources=[*(views[name][list(own)] for name, own in features.on_demand_sources.items()), moment],
        feature_transformation=PandasTransformation(udf=_request_time, udf_string=text),
        mode="pandas",
        description="Features of a user, a content and the moment of a request together.",
        tags={FUNCTION_TAG: ON_DEMAND_VIEW},
    )


def _request_time(frame: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = request_time_frame(frame)
    return found
