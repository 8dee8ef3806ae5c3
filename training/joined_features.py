"""Reads features by Feast's point-in-time join, as the columns that a snapshot holds."""

import feast
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from feast.repo_config import RepoConfig

from stillpoint.app.entities import Entity, user
from stillpoint.app.feature_set import RANKER_SERVICE, FeatureSet, item_of
from stillpoint.app.records import Origin, View
from stillpoint.clock import SECOND
from stillpoint.dtypes import DType
from stillpoint.errors import CorruptData, UnknownFeature
from stillpoint.features.model_columns import feature_column
from stillpoint.features.request_time import REQUEST_TIMESTAMP, compute
from stillpoint.vector_columns import pack_vectors
from training.labels import SPINE_KEYS

AS_OF = "as_of"

Columns = dict[str, np.ndarray]


class PointInTime:
    """Point-in-time reads of the ranker's feature service from one feature store."""

    def __init__(self, store: feast.FeatureStore, features: FeatureSet) -> None:
        """Look up the ranker's feature service in the store.

        Raises:
            UnknownFeature: the store does not know the service, or it lacks a declared feature.
        """
        self._store = with_event_timestamps(store)
        self._features = features
        self._references = _references(self._store, features)

    def join(self, spine: pl.DataFrame) -> Columns:
        """Return every feature of the service (embeddings too) and the streamed views' ages for each row at its `as_of`.

        User features are joined once per user and moment, not once per item of a list.
        """
        users = spine.select("user_id", AS_OF).unique(maintain_order=True).with_row_index("user_row")
        place = spine.join(users, on=["user_id", AS_OF], how="left", maintain_order="left")["user_row"]
        item = item_of(self._features)
        tables = {
            user: (users.drop("user_row"), place.to_numpy()),
            item: (spine.select(item.join_key, AS_OF), np.arange(len(spine))),
        }
        columns: Columns = {}
        for entity, (asked, rows) in tables.items():
            keys = asked.rename({AS_OF: "event_timestamp"})
            job = self._store.get_historical_features(entity_df=keys.to_pandas(), features=self._references[entity])
            joined = job.to_arrow()
            if joined.num_rows != len(keys):
                raise CorruptData(f"the point-in-time join returned {joined.num_rows} rows for {len(keys)}")
            for view in self._features.of(entity):
                columns |= {name: values[rows] for name, values in _columns(view, joined, keys).items()}
        return columns


def feature_rows(features: FeatureSet, spine: pl.DataFrame, columns: Columns) -> pa.Table:
    """Return the spine's rows with the service's features, and the request-time features at `as_of`; embeddings as packed vectors."""
    columns = columns | {REQUEST_TIMESTAMP: spine[AS_OF].cast(pl.Int64).to_numpy()}
    names = [feature.name for feature in features.scalars]
    kept = spine.select(*SPINE_KEYS, "kind", "position", "label").to_arrow()
    for name in names:
        text = columns[name].dtype == object
        values = pa.array(columns[name].tolist(), pa.string()) if text else _nullable(columns[name])
        kept = kept.append_column(name, values)
    for name, values in compute(columns, features.request_features).items():
        kept = kept.append_column(name, _nullable(values))
    for view in features.stored:
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                kept = kept.append_column(feature.name, pack_vectors(columns[feature.name]))
    return kept.cast(pa.schema([field.with_type(_plain(field.type)) for field in kept.schema]))


def with_event_timestamps(store: feast.FeatureStore) -> feast.FeatureStore:
    """Return a store whose joins also return each view's event timestamp, from which ages are computed."""
    if getattr(store.config.offline_store, "add_event_timestamps", False):
        return store
    config: RepoConfig = store.config.model_copy()
    offline = store.config.offline_store.model_copy(update={"add_event_timestamps": True, "created_cutoff": True})
    config._offline_store = offline
    return feast.FeatureStore(config=config)


def _references(store: feast.FeatureStore, features: FeatureSet) -> dict[Entity, list[str]]:
    """Return the service's features by entity, so that user features are joined once per list and not once per item."""
    try:
        service = store.get_feature_service(RANKER_SERVICE)
    except feast.errors.FeatureServiceNotFoundException:
        raise UnknownFeature(
            f"project {store.project} has no feature service {RANKER_SERVICE}; run `stillpoint feast apply`"
        ) from None
    served = {f"{one.name}:{feature.name}" for one in service.feature_view_projections for feature in one.features}
    wanted = {
        entity: [f"{view.name}:{feature.name}" for view in features.of(entity) for feature in view]
        for entity in (user, item_of(features))
    }
    missing = [name for names in wanted.values() for name in names if name not in served]
    if missing:
        raise UnknownFeature(f"service {RANKER_SERVICE} lacks {', '.join(missing)}; apply the declared definitions")
    return wanted


def _columns(view: View, joined: pa.Table, keys: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return a view's features and its age as inputs of the request-time features."""
    found = {
        feature.name: feature_column(feature.name, feature.dtype, joined[feature.name].combine_chunks())
        for feature in view
    }
    if view.origin is Origin.STREAMED:
        happened = joined[f"{view.name}__event_timestamp"].combine_chunks().cast(pa.timestamp("us", tz="UTC"))
        asked = pa.array(keys["event_timestamp"].cast(pl.Int64).to_numpy())
        age = pc.subtract(asked, happened.cast(pa.int64()))
        found[f"{view.name}_age_seconds"] = age.to_numpy(zero_copy_only=False) / SECOND
    return found


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)


def _plain(type: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(type) or pa.types.is_string_view(type) else type
