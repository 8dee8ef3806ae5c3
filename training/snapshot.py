"""What was known at each moment at which something was shown? (immutable training sets)

Labels from impressions, joined through Feast with what had happened and arrived by then. Nothing that happened or arrived
after the cutoff can change a snapshot (`training/kept_snapshot.py` says how it is kept).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import feast
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from feast.repo_config import RepoConfig

from stillpoint.clock import SECOND
from stillpoint.errors import CorruptData, InvalidInput, UnknownFeature
from stillpoint.features.declarations import (
    EMBEDDING_LENGTH,
    RANKER_SERVICE,
    SERVICES,
    STREAMED_VIEWS,
    DType,
    Entity,
    View,
)
from stillpoint.features.request import REQUEST_FEATURES, REQUEST_TIMESTAMP, request_time_features
from stillpoint.lake import DateRange, Lake
from training.kept_snapshot import Expectation, Snapshot, keep_snapshot, stored_rows
from training.labels import LABEL_EVENT_TYPES, SPINE_KEYS, LabelDefinition, label_rows

MINIMUM_ROWS = 500
CHUNK_ROWS = 50_000
_VIEWS = SERVICES[RANKER_SERVICE]


def make_snapshot(
    lake: Lake,
    store: feast.FeatureStore,
    *,
    cutoff: datetime,
    encoder_sha256: str,
    first: datetime | None = None,
    definition: LabelDefinition | None = None,
    expect: Callable[[pa.Table], Sequence[Expectation]] | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Snapshot:
    """Label what was shown until `cutoff`, join what was known then, and keep the result in the lake.

    Making the same snapshot again changes nothing and returns the first one's manifest. Reads the lake, and features only
    through `store.get_historical_features`. What `expect` finds in the rows is noted in the manifest.

    Raises:
        InvalidInput: too few labels, or labels of one class only.
        UnknownFeature: the store's service lacks a declared feature, or the store does not know the service.
    """
    definition = definition or LabelDefinition()
    spine = _spine(lake, cutoff, first, definition)
    positives = int(spine["label"].sum())
    if len(spine) < MINIMUM_ROWS or positives in (0, len(spine)):
        raise InvalidInput(
            f"{len(spine)} labelled rows with {positives} successes until {cutoff:%Y-%m-%d %H:%M} UTC; expected at least "
            f"{MINIMUM_ROWS} rows of both classes: give a later cutoff, or more history"
        )
    store = with_event_timestamps(store)
    references = _references(store)
    parts = []
    for start in range(0, len(spine), CHUNK_ROWS):
        parts.append(_features(store, references, spine.slice(start, CHUNK_ROWS)))
        progress(min(1.0, (start + CHUNK_ROWS) / len(spine)))
    rows = pa.concat_tables(parts).combine_chunks()
    data, rows_sha256 = stored_rows(rows)
    body: dict[str, Any] = {
        "format_version": 1,
        "feature_service": RANKER_SERVICE,
        "first": first,
        "cutoff": cutoff,
        "rows": rows.num_rows,
        "positives": positives,
        "columns": {field.name: str(field.type) for field in rows.schema},
        "definitions_sha256": definitions_sha256(),
        "encoder_sha256": encoder_sha256,
        "label": definition,
        "data": "simulated" if _is_simulated(lake) else "observed",
        "rows_sha256": rows_sha256,
        "as_of_first": spine["event_timestamp"].min(),
        "as_of_last": spine["event_timestamp"].max(),
    }
    return keep_snapshot(lake, body, rows, data, expect)


def definitions_sha256() -> str:
    """Return the digest of the declared features that a model is trained on, their order left out."""
    declared = {
        f"{view.name}:{feature.name}": [feature.dtype, feature.null_when, view.max_age_seconds]
        for view in _VIEWS
        for feature in view
    } | {one.feature.name: list(one.inputs) for one in REQUEST_FEATURES}
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def with_event_timestamps(store: feast.FeatureStore) -> feast.FeatureStore:
    """Return a store that also says when each view's value happened, which the ages are made of."""
    if getattr(store.config.offline_store, "add_event_timestamps", False):
        return store
    config: RepoConfig = store.config.model_copy()
    offline = store.config.offline_store.model_copy(update={"add_event_timestamps": True, "created_cutoff": True})
    config._offline_store = offline
    return feast.FeatureStore(config=config)


def _spine(lake: Lake, cutoff: datetime, first: datetime | None, definition: LabelDefinition) -> pl.DataFrame:
    dates = DateRange(first.date() if first else None, cutoff.date())
    kinds = pads.field("type").isin([kind.value for kind in LABEL_EVENT_TYPES])
    columns = ["event_id", "user_id", "type", "event_timestamp", "arrived_at", "play_id", "content_id"]
    columns += ["position_seconds", "recommendation_id", "kind", "items", "verdict", "sequence"]
    events = lake.read("events", dates, columns=columns, where=kinds)
    return label_rows(events, cutoff=cutoff, first=first, definition=definition)


def _references(store: feast.FeatureStore) -> dict[Entity, list[str]]:
    """Return the service's features by entity, so that a user's are joined once per list and not once per item."""
    try:
        service = store.get_feature_service(RANKER_SERVICE)
    except feast.errors.FeatureServiceNotFoundException:
        raise UnknownFeature(
            f"project {store.project} has no feature service {RANKER_SERVICE}; run `stillpoint feast apply`"
        ) from None
    served = {f"{one.name}:{feature.name}" for one in service.feature_view_projections for feature in one.features}
    wanted = {entity: [f"{v.name}:{f.name}" for v in _VIEWS if v.entity is entity for f in v] for entity in Entity}
    missing = [name for names in wanted.values() for name in names if name not in served]
    if missing:
        raise UnknownFeature(f"service {RANKER_SERVICE} lacks {', '.join(missing)}; apply the declared definitions")
    return wanted


def _features(store: feast.FeatureStore, references: dict[Entity, list[str]], spine: pl.DataFrame) -> pa.Table:
    """Return the spine's rows with the service's features but embeddings, and the request-time features."""
    count = len(spine)
    people = spine.select("user_id", "event_timestamp").unique(maintain_order=True).with_row_index("person")
    place = spine.join(people, on=["user_id", "event_timestamp"], how="left", maintain_order="left")["person"]
    contents = spine.select("content_id", "event_timestamp")
    columns: dict[str, np.ndarray] = {}
    tables = {
        Entity.USER: (people.drop("person"), place.to_numpy()),
        Entity.CONTENT: (contents, np.arange(count)),
    }
    for entity, (keys, rows) in tables.items():
        job = store.get_historical_features(entity_df=keys.to_pandas(), features=references[entity])
        joined = job.to_arrow()
        if joined.num_rows != len(keys):
            raise CorruptData(f"the point-in-time join returned {joined.num_rows} rows for {len(keys)}")
        for view in _VIEWS:
            if view.entity is entity:
                columns |= {name: values[rows] for name, values in _columns(view, joined, keys).items()}
    columns[REQUEST_TIMESTAMP] = spine["event_timestamp"].cast(pl.Int64).to_numpy()
    names = [feature.name for view in _VIEWS for feature in view if feature.dtype is not DType.EMBEDDING]
    kept = spine.select(*SPINE_KEYS, "kind", "position", "label").to_arrow()
    for name in names:
        text = columns[name].dtype == object
        values = pa.array(columns[name].tolist(), pa.string()) if text else _nullable(columns[name])
        kept = kept.append_column(name, values)
    for name, values in request_time_features(columns).items():
        kept = kept.append_column(name, _nullable(values))
    return kept.cast(pa.schema([field.with_type(_plain(field.type)) for field in kept.schema]))


def _columns(view: View, joined: pa.Table, keys: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return a view's features and its age as request-time features take them."""
    found = {}
    for feature in view:
        column = joined[feature.name].combine_chunks()
        if feature.dtype is DType.EMBEDDING:
            found[feature.name] = _embeddings(column)
        elif feature.dtype is DType.STRING:
            found[feature.name] = np.array(column.to_pylist(), dtype=object)
        else:
            found[feature.name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if view in STREAMED_VIEWS:
        happened = joined[f"{view.name}__event_timestamp"].combine_chunks().cast(pa.timestamp("us", tz="UTC"))
        asked = pa.array(keys["event_timestamp"].cast(pl.Int64).to_numpy())
        age = pc.cast(pc.subtract(asked, happened.cast(pa.int64())), pa.float64(), safe=False)
        found[f"{view.name}_age_seconds"] = age.to_numpy(zero_copy_only=False) / SECOND
    return found


def _embeddings(column: pa.Array) -> np.ndarray:
    vectors = np.full((len(column), EMBEDDING_LENGTH), np.nan, dtype=np.float32)
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if present.any():
        vectors[present] = np.asarray(column.flatten(), dtype=np.float32).reshape(-1, EMBEDDING_LENGTH)
    return vectors


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)


def _plain(type: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_large_string(type) or pa.types.is_string_view(type) else type


def _is_simulated(lake: Lake) -> bool:
    return any(commit.properties.get("simulated") for commit in lake.commits())
