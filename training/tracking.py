"""What does MLflow get to know about a run, and how does a model look from MLflow?

The model is a Python model that holds the whole bundle and scores from raw feature columns: `user_id` and embeddings
stay out, request-time features are computed inside, `sequence_id` -1 means a user without one.
"""

import tempfile
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema

from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle
from stillpoint.settings import Settings
from training.snapshot import Snapshot
from training.train import Trained

MODEL_NAME = "stillpoint-ranker"


class RankerModel(PythonModel):  # type: ignore[misc]
    """Scores rows of feature columns, `content_id` and `sequence_id` with the bundle beside it."""

    def load_context(self, context: PythonModelContext) -> None:
        self._bundle = ModelBundle.load(context.artifacts["bundle"])

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


def signature(bundle: ModelBundle) -> ModelSignature:
    """Return the typed columns that the model takes and gives."""
    inputs = [ColSpec(DataType.string, "content_id"), ColSpec(DataType.long, "sequence_id")]
    for name in bundle.input_columns:
        text = name in bundle.manifest.categories
        inputs.append(ColSpec(DataType.string if text else DataType.double, name, required=False))
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double)]))


def track(settings: Settings, snapshot: Snapshot, trained: Trained, *, alias: str = "candidate") -> str:
    """Log parameters, metrics, plots, signature and model of a run, register it under `alias`, and return the run's id."""
    bundle, manifest = trained.bundle, trained.bundle.manifest
    mlflow.set_tracking_uri(settings.mlflow_tracking_uri)
    mlflow.set_experiment(settings.mlflow_experiment)
    with mlflow.start_run(run_name=f"{manifest.snapshot_id}-m{manifest.mapping_version}") as run:
        mlflow.log_params(
            {
                "snapshot_id": manifest.snapshot_id,
                "mapping_version": manifest.mapping_version,
                "encoder_sha256": manifest.encoder_sha256,
                "definitions_sha256": manifest.definitions_sha256,
                "bundle_sha256": bundle.sha256,
                "data": manifest.data,
                "seed": trained.evaluation.seed,
                "rounds": trained.evaluation.best_round,
                "train_rows": trained.evaluation.train_rows,
            }
        )
        mlflow.log_metrics(trained.evaluation.metrics())
        mlflow.log_dict(trained.evaluation.model_dump(mode="json"), "evaluation.json")
        mlflow.log_figure(importance_figure(trained.importance), "importance.png")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bundle.tar.gz"
            path.write_bytes(bundle.data)
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=RankerModel(),
                artifacts={"bundle": str(path)},
                signature=signature(bundle),
                input_example=input_example(snapshot, bundle),
                pip_requirements=["numpy", "pandas", "pydantic", "xgboost", "mlflow"],
                registered_model_name=MODEL_NAME,
            )
        MlflowClient().set_registered_model_alias(MODEL_NAME, alias, logged.registered_model_version)
        return str(run.info.run_id)


def input_example(snapshot: Snapshot, bundle: ModelBundle) -> pd.DataFrame:
    """Return the snapshot's last three rows as the model takes them, for a user without a sequence id."""
    rows: pd.DataFrame = (
        snapshot.rows.slice(max(0, snapshot.rows.num_rows - 3))
        .select(["content_id", *bundle.input_columns])
        .to_pandas()
    )
    rows.insert(1, "sequence_id", np.array([-1] * len(rows), dtype=np.int64))
    for name in bundle.input_columns:
        if name not in bundle.manifest.categories:
            rows[name] = rows[name].astype(float)
    return rows


def importance_figure(importance: dict[str, float]) -> Any:
    """Return a plot of the twenty features that the trees gain most from."""
    from matplotlib.figure import Figure

    top = sorted(
        ((gain, name) for name, gain in importance.items() if name != COLLABORATIVE_SCORE or gain), reverse=True
    )
    figure = Figure(figsize=(7, 6), layout="tight")
    axes = figure.subplots()
    axes.barh([name for _, name in top[:20]][::-1], [gain for gain, _ in top[:20]][::-1])
    axes.set_xlabel("total gain")
    return figure


def _values(bundle: ModelBundle, name: str, column: "pd.Series[Any]") -> np.ndarray:
    if name in bundle.manifest.categories:
        return column.astype(object).where(column.notna(), None).to_numpy()
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
