"""Tracks runs and models in MLflow.

The model is `training/registered_model.py` with the whole bundle beside it. It scores from raw feature columns: `user_id`
and embeddings stay out, `sequence_id` -1 means a user without one.
"""

import contextlib
import io
import logging
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema

import stillpoint
from stillpoint.errors import StackUnavailable
from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle
from stillpoint.registered_models import CANDIDATE, DIGEST_TAG, MODEL_NAME
from stillpoint.settings import Settings
from stillpoint.snapshots import Snapshot
from training.evaluation_page import page
from training.snapshot_columns import snapshot_columns
from training.train import Evaluation

SECONDS = 5.0
"""How long to wait for a tracking server's first answer."""
_MODEL_FILE = Path(__file__).with_name("registered_model.py")
_PACKAGE = Path(str(stillpoint.__file__)).parent


def signature(bundle: ModelBundle) -> ModelSignature:
    """Return the MLflow signature: the typed columns that the model takes and returns."""
    inputs = [ColSpec(DataType.string, "content_id"), ColSpec(DataType.long, "sequence_id")]
    for name in bundle.input_columns:
        text = name in bundle.manifest.categories
        inputs.append(ColSpec(DataType.string if text else DataType.double, name, required=False))
    return ModelSignature(Schema(inputs), Schema([ColSpec(DataType.double)]))


def track(
    settings: Settings,
    snapshot: Snapshot,
    bundle: ModelBundle,
    evaluation: Evaluation,
    *,
    job: str | None = None,
    alias: str = CANDIDATE,
) -> str:
    """Log parameters, metrics, plots, signature and model of a run, register it, and return the run's id.

    The new version is tagged with the bundle's digest, by which a release verb finds it to set its colour's alias. `job`
    names the training job that the model comes from, if it is not from this process.
    """
    manifest = bundle.manifest
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
                "seed": evaluation.seed,
                "rounds": evaluation.best_round,
                "train_rows": evaluation.train_rows,
            }
        )
        if job is not None:
            mlflow.set_tag("training_job", job)
        mlflow.log_metrics(evaluation.metrics())
        mlflow.log_dict(evaluation.model_dump(mode="json"), "evaluation.json")
        mlflow.log_text(page(evaluation, bundle.sha256), "evaluation.html")
        mlflow.log_figure(importance_figure(bundle.gains()), "importance.png")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bundle.tar.gz"
            path.write_bytes(bundle.data)
            with _printed_to_the_log():
                logged = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(_MODEL_FILE),
                    code_paths=[str(_PACKAGE)],
                    artifacts={"bundle": str(path)},
                    model_config={"bundle_sha256": bundle.sha256},
                    signature=signature(bundle),
                    input_example=input_example(snapshot, bundle),
                    pip_requirements=["numpy", "pandas", "pydantic", "xgboost", "mlflow"],
                    registered_model_name=MODEL_NAME,
                )
        client, version = MlflowClient(), str(logged.registered_model_version)
        client.set_model_version_tag(MODEL_NAME, version, DIGEST_TAG, bundle.sha256)
        client.set_registered_model_alias(MODEL_NAME, alias, version)
        return str(run.info.run_id)


@contextlib.contextmanager
def _printed_to_the_log() -> Iterator[None]:
    """Log what MLflow prints on standard error by itself: that it has registered a model."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            logging.getLogger("mlflow").warning("%s", line)


def refuse_silent_server(uri: str) -> None:
    """Check before a long training that the tracking server answers. A local backend always passes.

    Raises:
        StackUnavailable: it does not answer.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/version", timeout=SECONDS):
            return
    except urllib.error.HTTPError:  # A server answers; MLflow's client has the credentials.
        return
    except OSError as error:
        raise StackUnavailable(
            f"MLflow at {uri} does not answer ({getattr(error, 'reason', error)}); start it (`stillpoint up`), or train "
            "with --no-track and without a registered model"
        ) from None


def input_example(snapshot: Snapshot, bundle: ModelBundle) -> pd.DataFrame:
    """Return the snapshot's last three rows as the model takes them, for a user without a sequence id."""
    rows = snapshot.rows.slice(max(0, snapshot.rows.num_rows - 3))
    content_ids = rows["content_id"].to_pylist()
    columns = bundle.select(snapshot_columns(rows), content_ids)
    frame = pd.DataFrame({"content_id": content_ids, "sequence_id": np.array([-1] * len(content_ids), dtype=np.int64)})
    return frame.assign(**{name: np.broadcast_to(values, (len(frame),)) for name, values in columns.items()})


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
