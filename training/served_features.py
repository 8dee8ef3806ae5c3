"""Reads features as the served log kept them, and measures how far they are from a point-in-time join.

The served log holds the user's features as they were read; contents are not in it and come from the join at the moment of
serving. The difference between both ways is training/serving skew, feature by feature.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from stillpoint.app.entities import user
from stillpoint.app.records import View
from stillpoint.clock import SECOND, to_micros
from stillpoint.dtypes import DType
from stillpoint.features.model_columns import feature_column
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake
from stillpoint.snapshots import FeatureDifference
from training.joined_features import AS_OF, Columns

_EXPIRED = "OUTSIDE_MAX_AGE"


class ServedLists:
    """The lists of a spine that the served log describes."""

    def __init__(self, lake: Lake, spine: pl.DataFrame, *, cutoff: datetime) -> None:
        """Read the log's rows of these lists that were served by `cutoff`; of copies, the earliest."""
        wanted = pa.array(spine["recommendation_id"].drop_nulls().unique().sort().to_list(), pa.string())
        rows = lake.read(
            "served",
            DateRange(None, cutoff.date()),
            columns=["recommendation_id", "user_id", "served_at", "views"],
            where=pads.field("recommendation_id").isin(wanted) & (pads.field("served_at") <= pa.scalar(cutoff)),
        )
        rows = rows.sort_by([("served_at", "ascending"), ("recommendation_id", "ascending"), ("user_id", "ascending")])
        places = pl.DataFrame(pl.from_arrow(rows.select(["recommendation_id", "user_id", "served_at"])))
        self._places = (
            places.with_row_index("served_row")
            .unique(subset=["recommendation_id", "user_id"], keep="first", maintain_order=True)
            .rename({"served_at": AS_OF})
        )
        self._columns = _columns(rows, lake.features.of(user))

    def of(self, spine: pl.DataFrame) -> pl.DataFrame:
        """Return the spine's rows that are in the log, with the time of serving as `as_of`, and `served_row`, their place in the log's rows."""
        return spine.drop(AS_OF, strict=False).join(
            self._places, on=["recommendation_id", "user_id"], how="inner", maintain_order="left"
        )

    def columns(self, rows: pl.DataFrame) -> Columns:
        """Return user features and ages for rows that `of` returned."""
        places = rows["served_row"].to_numpy()
        return {name: values[places] for name, values in self._columns.items()}


def _columns(rows: pa.Table, user_views: Sequence[View]) -> Columns:
    count = rows.num_rows
    features = [feature for view in user_views for feature in view]
    found: dict[str, list[Any]] = {feature.name: [None] * count for feature in features}
    ages = {view.name: np.full(count, np.nan) for view in user_views}
    names = {view.name: view for view in user_views}
    moments = rows["served_at"].cast(pa.int64()).to_numpy()
    for place, logged in enumerate(rows["views"]):
        for one in logged.as_py():
            view = names.get(one["view"])
            if view is None:
                continue
            values = json.loads(one["values"])
            for feature in view:
                value = values.get(feature.name)
                if value is not None and feature.dtype is DType.EMBEDDING:  # an array takes an eighth of a list's room
                    (value,) = feature_column(feature.name, feature.dtype, [value])
                found[feature.name][place] = value
            if one["event_timestamp"] is not None and one["status"] != _EXPIRED:
                ages[view.name][place] = (moments[place] - to_micros(one["event_timestamp"])) / SECOND
    columns = {feature.name: feature_column(feature.name, feature.dtype, found[feature.name]) for feature in features}
    return columns | {f"{name}_age_seconds": values for name, values in ages.items()}


class Differences:
    """Compares served features with joined ones of the same rows, and adds up the differences over several parts."""

    def __init__(self) -> None:
        self._found: dict[str, FeatureDifference] = {}

    def add(self, served: pa.Table, joined: pa.Table, features: list[str]) -> None:
        """Add rows to the comparison. Both tables hold the same rows in the same order."""
        for name in features:
            part = _difference(name, served[name].combine_chunks(), joined[name].combine_chunks())
            before = self._found.get(name)
            self._found[name] = part if before is None else _sum(before, part)

    def features(self) -> tuple[FeatureDifference, ...]:
        """Return each feature's difference, those that differ most often first."""
        return tuple(sorted(self._found.values(), key=lambda one: (one.share_equal, one.feature)))


def _difference(name: str, served: pa.Array, joined: pa.Array) -> FeatureDifference:
    there, known = (pc.is_valid(one).to_numpy(zero_copy_only=False) for one in (served, joined))
    both = there & known
    equal = pc.fill_null(pc.equal(served, joined), False).to_numpy(zero_copy_only=False) & both
    largest = 0.0
    if both.any() and pa.types.is_floating(served.type):
        apart = np.abs(_numbers(served)[both] - _numbers(joined)[both])
        largest = float(apart.max())
    return FeatureDifference(
        feature=name,
        rows=len(served),
        equal=int(equal.sum() + (~there & ~known).sum()),
        only_served=int((there & ~known).sum()),
        only_joined=int((~there & known).sum()),
        largest_difference=largest,
    )


def _sum(one: FeatureDifference, other: FeatureDifference) -> FeatureDifference:
    counts: dict[str, Any] = {
        name: getattr(one, name) + getattr(other, name) for name in ("rows", "equal", "only_served", "only_joined")
    }
    return FeatureDifference(
        feature=one.feature, largest_difference=max(one.largest_difference, other.largest_difference), **counts
    )


def _numbers(values: pa.Array) -> np.ndarray:
    return np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
