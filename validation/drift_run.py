"""Compares a training snapshot with the lake and with served features for drift.

The reference is a training snapshot (its users' and contents' features as the model saw them); beside it stand the newest
rows of the lake, and what was served. Embeddings are not in a snapshot: they are compared between the lake's older and newer
half.
"""

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import AwareDatetime, BaseModel, ConfigDict

from stillpoint.app.entities import user
from stillpoint.dtypes import DType
from stillpoint.features.model_columns import feature_column
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.tables import Lake
from validation.drift import DriftLimits, DriftMeasure, Values, compare

_ROWS = 100_000
_SERVED = 5_000


class DriftReport(BaseModel):
    """The drifted measures by compared sample: `lake`, `served` or `lake halves`. A report without any comparison is no pass."""

    model_config = ConfigDict(frozen=True)

    at: AwareDatetime
    snapshot_id: str
    rows: dict[str, int]
    moved: dict[str, tuple[DriftMeasure, ...]]

    @property
    def drifted(self) -> tuple[tuple[str, DriftMeasure], ...]:
        return tuple((sample, one) for sample, measures in self.moved.items() for one in measures if one.drifted)

    @property
    def passed(self) -> bool:
        return self.compared and not self.drifted

    @property
    def compared(self) -> bool:
        """Whether enough values were on both sides to compare more than shares of nulls."""
        return any(one.measure != "null share" for measures in self.moved.values() for one in measures)


def check_drift(
    lake: Lake, snapshot: pa.Table, snapshot_id: str, *, since: date, at: Any, limits: DriftLimits | None = None
) -> DriftReport:
    """Compare a snapshot's features with those of the lake and of the served log since a day.

    Raises:
        InvalidSettings: no limits are given, and those of the settings are malformed.
    """
    limits = limits or DriftLimits.load()
    rows: dict[str, int] = {}
    moved: dict[str, list[DriftMeasure]] = {"lake": [], "served": [], "lake halves": []}
    served = _served(lake, since)
    for view in lake.features.stored:
        recent = lake.read(feature_dataset(view), DateRange(since)).sort_by("event_timestamp")
        recent = recent.slice(max(0, recent.num_rows - _ROWS))
        rows[f"lake {view.name}"] = recent.num_rows
        rows[f"served {view.name}"] = len(served.get(view.name, ()))
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                vectors = feature_column(feature.name, feature.dtype, recent[feature.name].combine_chunks())
                if len(vectors):
                    middle = len(vectors) // 2
                    moved["lake halves"] += compare(feature, vectors[:middle], vectors[middle:], limits)
                continue
            reference = _objects(snapshot[feature.name])
            if recent.num_rows:
                moved["lake"] += compare(feature, reference, _objects(recent[feature.name]), limits)
            if view.entity == user and rows[f"served {view.name}"]:
                values = np.array([one[feature.name] for one in served[view.name]], dtype=object)
                moved["served"] += compare(feature, reference, values, limits)
    return DriftReport(
        at=at, snapshot_id=snapshot_id, rows=rows, moved={name: tuple(found) for name, found in moved.items()}
    )


def _served(lake: Lake, since: date) -> Mapping[str, list[dict[str, Any]]]:
    """Return the newest served values, by view."""
    table = lake.newest("served", _SERVED, DateRange(since), columns=["served_at", "views"]).sort_by("served_at")
    found: dict[str, list[dict[str, Any]]] = {}
    for views in table.slice(max(0, table.num_rows - _SERVED))["views"].to_pylist():
        for one in views:
            found.setdefault(one["view"], []).append(json.loads(one["values"]))
    return found


def _objects(column: pa.ChunkedArray) -> Values:
    return np.array(column.to_pylist(), dtype=object)
