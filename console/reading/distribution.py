"""How a view's values are distributed lately and were in training: drift, shares of nulls, newest values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from console.sources import Sources
from stillpoint.app.entities import user
from stillpoint.app.records import Feature, Origin, View
from stillpoint.dtypes import DType
from stillpoint.errors import StillpointError
from stillpoint.features.model_columns import feature_column
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.snapshots import load_snapshot
from validation.drift import DriftLimits, DriftMeasure, Values, compare

ROWS = 20_000
DAYS = 2
SAMPLES = 8
SERVED = 3_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the newest rows: the entity, the value and its time."""

    entity: str
    value: object
    at: datetime


@dataclass(frozen=True, slots=True)
class FeatureValues:
    """One feature: its drift against training, shares of nulls, newest values. No measures: there is nothing to compare."""

    name: str
    measures: tuple[DriftMeasure, ...]
    null_share: float | None
    null_share_before: float | None
    samples: tuple[Sample, ...]

    @property
    def drifted(self) -> bool:
        return any(one.drifted for one in self.measures)


@dataclass(frozen=True, slots=True)
class ViewValues:
    """A view's newest rows: how many, what the compared values are `of`, how old the newest row is, and each feature.

    `against` is the snapshot of the live release, None where `why_not` says why nothing is compared.
    """

    rows: int
    of: str
    newest: datetime | None
    age_seconds: float | None
    against: str | None
    why_not: str | None
    features: tuple[FeatureValues, ...]


def view_values(sources: Sources, view: View) -> ViewValues:
    """Read a view's newest rows and compare them with the live release's snapshot; embeddings between older and newer half."""
    mapping, snapshot, against, why_not = _reference(sources, view)
    now = sources.clock()
    dates = DateRange() if view.origin is Origin.MAPPING else DateRange(first=(now - timedelta(days=DAYS)).date())
    recent = sources.lake.newest(feature_dataset(view, mapping), ROWS, dates).sort_by("event_timestamp")
    recent = recent.slice(max(0, recent.num_rows - ROWS))
    newest = recent["event_timestamp"][-1].as_py() if recent.num_rows else None
    limits = DriftLimits.load()
    served = _served(sources, view, dates) if view.entity is user and view.origin is not Origin.MAPPING else []
    return ViewValues(
        rows=recent.num_rows,
        of=f"the {len(served):,} newest served values"
        if served
        else f"the {recent.num_rows:,} newest rows of the lake",
        newest=newest,
        age_seconds=None if newest is None else (now - newest).total_seconds(),
        against=against,
        why_not=why_not,
        features=tuple(_feature(view, feature, recent, served, snapshot, limits) for feature in view),
    )


def _reference(sources: Sources, view: View) -> tuple[int, pa.Table | None, str | None, str | None]:
    book = ObjectReleaseBook(sources.lake.objects)
    pointer = book.live()
    if pointer is None:
        return 1, None, None, "No release is live, so there is no training set to compare with."
    record = book.get(pointer.release)
    if view.origin is Origin.MAPPING:
        return record.mapping_version, None, None, "Ids of a mapping are no input of training."
    try:
        return record.mapping_version, load_snapshot(sources.lake, record.snapshot_id).rows, record.snapshot_id, None
    except StillpointError as error:
        return record.mapping_version, None, None, f"The training set of {record.id} cannot be read: {error}."


def _served(sources: Sources, view: View, dates: DateRange) -> list[dict[str, Any]]:
    """Return the view's values of the newest predictions: what models saw, absent rows included."""
    table = sources.lake.newest("served", SERVED, dates, columns=["served_at", "views"]).sort_by("served_at")
    newest = table.slice(max(0, table.num_rows - SERVED))["views"].to_pylist()
    return [json.loads(one["values"]) for views in newest for one in views if one["view"] == view.name]


def _feature(
    view: View,
    feature: Feature,
    recent: pa.Table,
    served: Sequence[dict[str, Any]],
    snapshot: pa.Table | None,
    limits: DriftLimits,
) -> FeatureValues:
    column = recent[feature.name].combine_chunks()
    lately = np.array([one[feature.name] for one in served], dtype=object) if served else _objects(column)
    nulls = sum(value is None for value in lately)
    measures: Sequence[DriftMeasure] = ()
    before = None
    if feature.dtype is DType.EMBEDDING:
        vectors = feature_column(feature.name, feature.dtype, column)
        middle = len(vectors) // 2
        if middle:
            measures = compare(feature, vectors[:middle], vectors[middle:], limits)
    elif snapshot is not None and feature.name in snapshot.column_names and len(lately):
        reference = snapshot[feature.name]
        before = reference.null_count / len(reference) if len(reference) else None
        measures = compare(feature, _objects(reference), lately, limits)
    rows = recent.slice(max(0, recent.num_rows - SAMPLES))
    newest = zip(
        *(rows[name].to_pylist() for name in (view.entity.join_key, feature.name, "event_timestamp")), strict=True
    )
    return FeatureValues(
        name=feature.name,
        measures=tuple(measures),
        null_share=nulls / len(lately) if len(lately) else None,
        null_share_before=before,
        samples=tuple(Sample(str(entity), _short(value), at) for entity, value, at in reversed(list(newest))),
    )


def _short(value: Any) -> object:
    return tuple(value) if isinstance(value, list) else value


def _objects(column: pa.ChunkedArray | pa.Array) -> Values:
    return np.array(column.to_pylist(), dtype=object)
