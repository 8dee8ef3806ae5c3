"""The model as an MLflow pyfunc, which scores where nothing but MLflow is installed.

MLflow stores this file and the package `stillpoint` with the model (`training/tracking.py`), so it may import no other room: whoever loads `models:/stillpoint-ranker@live` needs no checkout and no installation of Stillpoint.
"""

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from stillpoint.model import ModelBundle


class RankerModel(PythonModel):  # type: ignore[misc]
    """Scores rows of feature columns, `content_id` and `sequence_id` with the bundle beside it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the bundle. Raises `ModelRefused` if it is not the one that was logged."""
        expected = context.model_config["bundle_sha256"]
        self._bundle = ModelBundle.load(context.artifacts["bundle"], expected_sha256=expected)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Return one score per row, float64."""
        return score_frame(self._bundle, model_input)


def score_frame(bundle: ModelBundle, frame: pd.DataFrame) -> np.ndarray:
    """Return one score per row of a frame with the model's columns, `content_id` and `sequence_id` (-1: none).

    Raises:
        ModelRefused: a column is missing.
    """
    columns = {name: _values(bundle, name, frame[name]) for name in bundle.input_columns if name in frame}
    return bundle.score(
        columns,
        content_ids=frame["content_id"].tolist(),
        sequence_id=frame["sequence_id"].fillna(-1).to_numpy().astype(np.int64),
    )


def _values(bundle: ModelBundle, name: str, column: "pd.Series[Any]") -> np.ndarray:
    if name in bundle.manifest.categories:
        return column.astype(object).where(column.notna(), None).to_numpy()
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


set_model(RankerModel())
