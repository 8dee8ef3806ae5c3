"""Feast's entities, sources, views and services, derived from the declarations."""

from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.pandas_transformation import PandasTransformation
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String

from stillpoint.features import declarations
from stillpoint.features.declarations import EMBEDDING_LENGTH, SERVICES, VIEWS, DType, Origin, View
from stillpoint.features.on_demand import ON_DEMAND_FEATURES, ON_DEMAND_SOURCES, ON_DEMAND_VIEW, request_time_frame
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
    on_demand: OnDemandFeatureView
    services: dict[str, FeatureService]

    def all(self) -> list[Definition]:
        """Return the objects in the order in which Feast can register them."""
        stored = (*self.entities.values(), *self.sources.values(), *self.views.values())
        return [*stored, self.on_demand, *self.services.values()]

    def named(self) -> dict[str, Definition]:
        """Return the objects under names that are unique across their kinds, as a module's attributes must be."""
        return {
            **{f"{name}_entity": entity for name, entity in self.entities.items()},
            **{f"{name}_source": source for name, source in self.sources.items()},
            **{f"{name}_view": view for name, view in self.views.items()},
            f"{self.on_demand.name}_view": self.on_demand,
            **{f"{name}_service": service for name, service in self.services.items()},
        }


def define(*, lake_root: str, mapping_version: int) -> Definitions:
    """Derive a project's definitions from the declarations.

    Every view reads the lake below `lake_root`; `user_sequence` reads the mapping of that one version, so that no
    project can load another's. A streamed view can be pushed to under the name `<view>_push`.
    """
    entities = {
        entity.value: Entity(name=entity.value, join_keys=[entity.join_key], value_type=ValueType.STRING)
        for entity in (declarations.user, declarations.content)
    }
    sources: dict[str, FileSource | PushSource] = {}
    views: dict[str, FeatureView] = {}
    for view in VIEWS:
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
        views[view.name] = _feature_view(view, entities[view.entity.value], source)
    services = {
        name: FeatureService(name=name, features=[views[view.name] for view in members])
        for name, members in SERVICES.items()
    }
    return Definitions(entities, sources, views, _on_demand_view(views), services)


def _feature_view(view: View, entity: Entity, source: FileSource | PushSource) -> FeatureView:
    return FeatureView(
        name=view.name,
        entities=[entity],
        ttl=view.ttl,
        schema=[
            Field(name=view.entity.join_key, dtype=String),
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


def _on_demand_view(views: dict[str, FeatureView]) -> OnDemandFeatureView:
    """Return the request-time features as Feast computes them, from our function.

    Feast rebuilds the function from its text, in whatever process reads the registry: the text imports ours.
    """
    text = (
        f"def {_request_time.__name__}(frame):\n"
        f"    from {request_time_frame.__module__} import {request_time_frame.__name__}\n"
        f"    return {request_time_frame.__name__}(frame)\n"
    )
    moment = RequestSource(name="request", schema=[Field(name=REQUEST_TIMESTAMP, dtype=Int64)])
    return OnDemandFeatureView(
        name=ON_DEMAND_VIEW,
        # Feast compares these with what it infers from the function: a description or a tag would be a difference.
        schema=[Field(name=one.feature.name, dtype=_TYPES[one.feature.dtype]) for one in ON_DEMAND_FEATURES],
        sources=[*(views[name][list(features)] for name, features in ON_DEMAND_SOURCES.items()), moment],
        feature_transformation=PandasTransformation(udf=_request_time, udf_string=text),
        mode="pandas",
        description="Features of a user, a content and the moment of a request together.",
        tags={FUNCTION_TAG: ON_DEMAND_VIEW},
    )


def _request_time(frame: pd.DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = request_time_frame(frame)
    return found
