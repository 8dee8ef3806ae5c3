"""The request-time features that Feast can compute itself, and how its frames and our columns meet.

Ages are left out: Feast gives an on-demand view no event times.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.features.declarations import EMBEDDING_LENGTH, VIEWS, DType, Feature, View
from stillpoint.features.model_columns import feature_column
from stillpoint.features.request_time import REQUEST_FEATURES, REQUEST_TIMESTAMP, Columns, Values, compute

ON_DEMAND_VIEW = "request_time"
"""The on-demand view's name, and the name of its function in a registry."""

_STORED: dict[str, tuple[View, Feature]] = {feature.name: (view, feature) for view in VIEWS for feature in view}
ON_DEMAND_FEATURES = tuple(
    declared for declared in REQUEST_FEATURES if set(declared.inputs) <= {*_STORED, REQUEST_TIMESTAMP}
)
"""The request-time features that depend on nothing but stored features and the moment of the request."""

ON_DEMAND_SOURCES: dict[str, tuple[str, ...]] = {}
"""The stored features that the on-demand features read, by view."""
for _name in dict.fromkeys(name for one in ON_DEMAND_FEATURES for name in one.inputs if name in _STORED):
    _view = _STORED[_name][0].name
    ON_DEMAND_SOURCES[_view] = (*ON_DEMAND_SOURCES.get(_view, ()), _name)


def request_time(rows: Columns) -> dict[str, Values]:
    """Return the on-demand features as float64, NaN where missing; inputs are as in `request_time_features`."""
    return compute(rows, ON_DEMAND_FEATURES)


ON_DEMAND_FUNCTIONS = {ON_DEMAND_VIEW: request_time}
"""Pure functions by the name under which a registry refers to them."""


def request_time_frame(frame: Any) -> Any:
    """Return the on-demand features of a pandas DataFrame with Feast's columns (nulls are None or NaN).

    Feast calls it in its own reads; the import path is stored in frozen registries.
    """
    import pandas as pd

    names = dict.fromkeys(name for one in ON_DEMAND_FEATURES for name in one.inputs)
    return pd.DataFrame(request_time({name: _column(frame[name], name) for name in names}), index=frame.index)


def _column(series: Any, name: str) -> npt.NDArray[Any]:
    if name == REQUEST_TIMESTAMP:
        return np.asarray(series.to_numpy(), dtype=np.int64)
    kind = _STORED[name][1].dtype
    values = [None if missing else value for value, missing in zip(series, series.isna(), strict=True)]
    length = EMBEDDING_LENGTH
    if kind is DType.EMBEDDING:  # Feast applies a view to vectors of one number, to see that it runs
        length = next((len(value) for value in values if value is not None), EMBEDDING_LENGTH)
    return feature_column(name, kind, values, length=length)
