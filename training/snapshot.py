"""What was known at each moment at which something was shown? (immutable training sets)

A snapshot is `snapshots/<id>/rows.parquet` with `manifest.json`; the id follows from the definitions and the rows, so
the same inputs give the same id and bytes, and nothing after the cutoff can change it. `sources.json` lists the
committed files that were read.
"""

import hashlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import feast
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
from feast.repo_config import RepoConfig
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.clock import SECOND
from stillpoint.errors import AlreadyExists, CorruptData, InvalidInput, ObjectMissing, UnknownFeature
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
from stillpoint.lake import DateRange, Lake, snapshot_rows
from training.labels import LABEL_EVENT_TYPES, SPINE_KEYS, LabelDefinition, label_rows

MINIMUM_ROWS = 500
CHUNK_ROWS = 50_000
_VIEWS = SERVICES[RANKER_SERVICE]


class SnapshotManifest(BaseModel):
    """What a snapshot holds and how it was made. Times are UTC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    id: str
    feature_service: str
    first: AwareDatetime | None
    cutoff: AwareDatetime
    rows: int
    positives: int
    columns: dict[str, str]
    definitions_sha256: str
    encoder_sha256: str
    label: LabelDefinition
    data: Literal["simulated", "observed"]
    rows_sha256: str
    revision: int = Field(default=0, ge=0, description="How often people were erased from it since.")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A manifest with its rows."""

    manifest: SnapshotManifest
    rows: pa.Table


def make_snapshot(
    lake: Lake,
    store: feast.FeatureStore,
    *,
    cutoff: datetime,
    encoder_sha256: str,
    first: datetime | None = None,
    definition: LabelDefinition | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Snapshot:
    """Label what was shown until `cutoff`, join what was known then, and keep the result in the lake.

    Making the same snapshot again changes nothing and returns the same id. Reads the lake, and features only through
    `store.get_historical_features`.

    Raises:
        InvalidInput: too few labels, or labels of one class only.
        UnknownFeature: the store's service lacks a declared feature, or the store does not know the service.
    """
    definition = definition or LabelDefinition()
    spine, files = _spine(lake, cutoff, first, definition)
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
    }
    identity = SnapshotManifest(id="", **body).model_dump_json().encode()
    manifest = SnapshotManifest(id=f"s{hashlib.sha256(identity).hexdigest()[:16]}", **body)
    folder = f"snapshots/{manifest.id}"
    lake.objects.put(snapshot_rows(folder, 0), data)
    lake.put_json(f"{folder}/sources.json", {"files": files})
    with suppress(AlreadyExists):  # The same inputs were taken before; the id says that the bytes are equal.
        lake.objects.create(f"{folder}/manifest.json", (manifest.model_dump_json(indent=1) + "\n").encode())
    return Snapshot(manifest, rows)


def stored_rows(rows: pa.Table) -> tuple[bytes, str]:
    """Return rows as they are stored, Parquet, and their digest. Equal rows give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd", coerce_timestamps="us")
    return sink.getvalue(), hashlib.sha256(sink.getbuffer()).hexdigest()


def load_snapshot(lake: Lake, snapshot_id: str, *, folder: str | None = None) -> Snapshot:
    """Return a stored snapshot; `folder` is where it lies, if not below `snapshots/`.

    Raises:
        InvalidInput: there is none. CorruptData: the rows are not those of the manifest.
    """
    folder = f"snapshots/{snapshot_id}" if folder is None else folder
    try:
        text = lake.objects.get(f"{folder}/manifest.json")
    except ObjectMissing:
        known = sorted({key.split("/")[1] for key in lake.objects.list("snapshots/") if key.endswith("manifest.json")})
        raise InvalidInput(f"there is no snapshot {snapshot_id!r}; there are: {', '.join(known) or 'none'}") from None
    try:
        manifest = SnapshotManifest.model_validate_json(text)
    except ValueError as error:
        raise CorruptData(f"{lake.root}/{folder}/manifest.json cannot be read: {error}") from None
    key = snapshot_rows(folder, manifest.revision)
    try:
        data = lake.objects.get(key)
    except ObjectMissing:
        raise CorruptData(f"{lake.root}/{key} is missing; take the snapshot again") from None
    if hashlib.sha256(data).hexdigest() != manifest.rows_sha256:
        raise CorruptData(f"{lake.root}/{key} does not match its manifest; take the snapshot again")
    return Snapshot(manifest, pq.read_table(io.BytesIO(data)))


def refuse_older_than(manifest: SnapshotManifest, limit: timedelta, *, now: datetime) -> None:
    """Refuse a snapshot whose cutoff lies too far back.

    Raises:
        InvalidInput: names the age and the limit.
    """
    age = now - manifest.cutoff
    if age > limit:
        raise InvalidInput(
            f"snapshot {manifest.id} ends {age / timedelta(hours=1):.0f} h ago; expected under "
            f"{limit / timedelta(hours=1):.0f} h: run `stillpoint snapshot` again"
        )


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


def _spine(
    lake: Lake, cutoff: datetime, first: datetime | None, definition: LabelDefinition
) -> tuple[pl.DataFrame, list[str]]:
    dates = DateRange(first.date() if first else None, cutoff.date())
    kinds = pads.field("type").isin([kind.value for kind in LABEL_EVENT_TYPES])
    columns = ["event_id", "user_id", "type", "event_timestamp", "arrived_at", "play_id", "content_id"]
    columns += ["position_seconds", "recommendation_id", "kind", "items", "verdict", "sequence"]
    events = lake.read("events", dates, columns=columns, where=kinds)
    return label_rows(events, cutoff=cutoff, first=first, definition=definition), [
        file.path for file in lake.files("events", dates)
    ]


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
