"""Which entities, sources, views and services does Feast get, given the declarations?"""

from dataclasses import dataclass

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Array, Bool, FeastType, Float32, Float64, Int64, String

from stillpoint.features import declarations
from stillpoint.features.declarations import EMBEDDING_LENGTH, SERVICES, VIEWS, DType, Origin, View
from stillpoint.lake import feature_dataset

_TYPES: dict[DType, FeastType] = {
    DType.INT64: Int64,
    DType.FLOAT64: Float64,
    DType.BOOL: Bool,
    DType.STRING: String,
    DType.EMBEDDING: Array(Float32),
}


@dataclass(frozen=True, slots=True)
class Definitions:
    """Everything that one Feast project holds. Pass `all()` to `FeatureStore.apply`."""

    entities: dict[str, Entity]
    sources: dict[str, FileSource | PushSource]
    views: dict[str, FeatureView]
    services: dict[str, FeatureService]

    def all(self) -> list[Entity | FileSource | PushSource | FeatureView | FeatureService]:
        """Return the objects in the order in which Feast can register them."""
        return [*self.entities.values(), *self.sources.values(), *self.views.values(), *self.services.values()]

    def named(self) -> dict[str, Entity | FileSource | PushSource | FeatureView | FeatureService]:
        """Return the objects under names that are unique across their kinds, as a module's attributes must be."""
        return {
            **{f"{name}_entity": entity for name, entity in self.entities.items()},
            **{f"{name}_source": source for name, source in self.sources.items()},
            **{f"{name}_view": view for name, view in self.views.items()},
            **{f"{name}_service": service for name, service in self.services.items()},
        }


def define(*, lake_root: str, mapping_version: int) -> Definitions:
    """Derive a project's definitions from the declarations.

    Every view reads the lake below `lake_root`; `user_sequence` reads the mapping of that one version, so that no
    project can load another's. A streamed view can be pushed to under the name `<view>_push`.
    """
    entities = {
        entity.value: Entity(name=entity.value, join_keys=[entity.join_key], value_type=ValueType.STRING)
        for entity in declarations.Entity
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
    return Definitions(entities=entities, sources=sources, views=views, services=services)


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
