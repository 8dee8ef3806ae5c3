"""Drift: measures how far a feature's distribution has moved from a model's training data. (pure)

Numbers and flags: population stability index over the reference's deciles, and the two-sample Kolmogorov–Smirnov distance
(scipy). Texts: Jensen–Shannon distance of their shares (scipy, base 2, 0 to 1). Embeddings: cosine distance of the
centroids. All: the difference of the shares of nulls.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp

from stillpoint.app.records import Feature
from stillpoint.dtypes import DType
from stillpoint.limits import LimitSettings

Values = npt.NDArray[Any]
_BINS = 10


class DriftLimits(LimitSettings):
    """The limits beyond which a feature counts as drifted; `STILLPOINT_DRIFT_…` variables change them.

    The stability index: below 0.1 is usually called stable, above 0.25 a shift (Siddiqi, 2006).
    """

    model_config = SettingsConfigDict(env_prefix="STILLPOINT_DRIFT_")

    stability_index: float = Field(default=0.25, gt=0, description="Population stability index of numbers and flags.")
    ks_distance: float = Field(default=0.2, gt=0, le=1, description="Kolmogorov–Smirnov distance of numbers and flags.")
    js_distance: float = Field(default=0.2, gt=0, le=1, description="Jensen–Shannon distance of texts.")
    centroid_shift: float = Field(default=0.1, gt=0, le=2, description="Cosine distance of embeddings' centroids.")
    null_share: float = Field(default=0.1, gt=0, le=1, description="Difference of the shares of nulls.")
    minimum_values: int = Field(default=50, ge=2, description="Fewer values on either side say nothing.")


class DriftMeasure(BaseModel):
    """One measure of one feature: its value, its limit, and shares by bin or text for a plot."""

    model_config = ConfigDict(frozen=True)

    feature: str
    measure: Literal["population stability index", "KS distance", "JS distance", "centroid shift", "null share"]
    value: float
    limit: float
    labels: tuple[str, ...] = ()
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()

    @property
    def drifted(self) -> bool:
        return self.value > self.limit


def compare(feature: Feature, before: Values, after: Values, limits: DriftLimits) -> list[DriftMeasure]:
    """Return the measures that apply to a feature's two samples, given as object arrays with None, or (n, k) for embeddings.

    If a side has fewer than `minimum_values` values, only the shares of nulls are compared.
    """
    if feature.dtype is DType.EMBEDDING:
        missing: list[Values] = [np.asarray(np.isnan(side).any(axis=1)) for side in (before, after)]
    else:
        missing = [np.array([value is None or value != value for value in side], bool) for side in (before, after)]
    shares = [float(gone.mean()) if len(gone) else 0.0 for gone in missing]
    found = [_moved(feature, "null share", abs(shares[1] - shares[0]), limits.null_share)]
    known = [side[~gone] for side, gone in zip((before, after), missing, strict=True)]
    if min(map(len, known)) < limits.minimum_values:
        return found
    if feature.dtype is DType.EMBEDDING:
        return [*found, _moved(feature, "centroid shift", centroid_shift(*known), limits.centroid_shift)]
    if feature.dtype is DType.STRING:
        return [*found, _texts(feature, known[0].tolist(), known[1].tolist(), limits)]
    return [*found, *_numbers(feature, known[0].astype(np.float64), known[1].astype(np.float64), limits)]


def stability_index(before: Values, after: Values) -> float:
    """Return the sum of (q − p) · ln(q / p) over the deciles of `before`; half a value is added to each bin.

    Siddiqi, Credit Risk Scorecards (2006).
    """
    p, q = (side / side.sum() for side in _binned(before, after)[1])
    return float(np.sum((q - p) * np.log(q / p)))


def centroid_shift(before: Values, after: Values) -> float:
    """Return one minus the cosine of the two means, from 0 (same direction) to 2 (opposite)."""
    left, right = before.astype(np.float64).mean(axis=0), after.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return 1.0 - float(left @ right) / length if length else 0.0


def _numbers(feature: Feature, before: Values, after: Values, limits: DriftLimits) -> list[DriftMeasure]:
    edges, counts = _binned(before, after)
    shares = [tuple((side / side.sum()).round(6).tolist()) for side in counts]
    labels = (*(f"up to {edge:.4g}" for edge in edges), "above")
    index = stability_index(before, after)
    distance = float(ks_2samp(before, after).statistic)
    return [
        _moved(feature, "population stability index", index, limits.stability_index, labels, *shares),
        _moved(feature, "KS distance", distance, limits.ks_distance),
    ]


def _texts(feature: Feature, before: Sequence[str], after: Sequence[str], limits: DriftLimits) -> DriftMeasure:
    names = sorted({*before, *after})
    shares = [np.array([side.count(name) for name in names], np.float64) / len(side) for side in (before, after)]
    distance = float(jensenshannon(shares[0], shares[1], base=2))
    sides = [tuple(side.round(6).tolist()) for side in shares]
    return _moved(feature, "JS distance", distance, limits.js_distance, tuple(names), *sides)


def _binned(before: Values, after: Values) -> tuple[Values, list[Values]]:
    edges = np.unique(np.quantile(before, np.linspace(0, 1, _BINS + 1)))[1:-1]
    counts = [
        np.bincount(np.searchsorted(edges, side, side="left"), minlength=len(edges) + 1) + 0.5
        for side in (before, after)
    ]
    return edges, counts


def _moved(
    feature: Feature,
    measure: Any,
    value: float,
    limit: float,
    labels: tuple[str, ...] = (),
    before: tuple[float, ...] = (),
    after: tuple[float, ...] = (),
) -> DriftMeasure:
    return DriftMeasure(
        feature=feature.name, measure=measure, value=value, limit=limit, labels=labels, before=before, after=after
    )
