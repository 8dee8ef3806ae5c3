"""The request-time features that Feast can compute itself, and how its frames and our columns meet.

Ages are left out: Feast gives an on-demand view no event times.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.app.feature_set import FeatureSet
from stillpoint.app.load import load_app
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.features.model_columns import feature_column
from stillpoint.features.request_time import REQUEST_TIMESTAMP, Columns, Values, compute
from stillpoint.settings import Settings

ON_DEMAND_VIEW = "request_time"
"""The on-demand view's name, and the name of its function in a registry."""


def on_demand_functions(features: FeatureSet) -> Mapping[str, Callable[[Columns], dict[str, Values]]]:
    """Return pure functions by the name under which a registry refers to them.

    They return the on-demand features as float64, NaN where missing; inputs are as in `request_time.compute`.
    """
    return {ON_DEMAND_VIEW: lambda rows: compute(rows, features.on_demand)}


def request_time_frame(frame: Any) -> Any:
    """Return the on-demand features of a pandas DataFrame with Feast's columns (nulls are None or NaN).

    Feast calls it in its own reads; the import path is stored in frozen registries. The app is the one that the settings
    name, as in every plugin that Feast constructs.
    """
    import pandas as pd

    features = load_app(Settings.load().app).features
    names = dict.fromkeys(name for one in features.on_demand for name in one.inputs)
    columns = {name: _column(features, frame[name], name) for name in names}
    return pd.DataFrame(compute(columns, features.on_demand), index=frame.index)


def _column(features: FeatureSet, series: Any, name: str) -> npt.NDArray[Any]:
    if name == REQUEST_TIMESTAMP:
        return np.asarray(series.to_numpy(), dtype=np.int64)
    kind = features.feature(name).dtype
    values = [None if missing else value for value, missing in zip(series, series.isna(), strict=True)]
    length = EMBEDDING_LENGTH
    if kind is DType.EMBEDDING:  # Feast applies a view to vectors of one number, to see that it runs
        length = next((len(value) for value in values if value is not None), EMBEDDING_LENGTH)
    return feature_column(name, kind, values, length=length)
