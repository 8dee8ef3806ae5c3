"""How does a SageMaker training job run as a plain process?

The job's `ContainerEntrypoint` (with `ContainerArguments`) is run with /opt/ml mapped to a folder: `SM_MODEL_DIR`,
`SM_OUTPUT_DATA_DIR`, `SM_CHANNEL_<NAME>`, hyperparameters in `SM_HPS` and in `input/config/hyperparameters.json`. What it
leaves in `model/` becomes `model.tar.gz`.
"""

import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

from stillpoint.errors import StackUnavailable
from stillpoint.local.container import Starter
from stillpoint.local.process import Child

Document = dict[str, Any]


def run_training_job(job: Document, folder: Path, starter: Starter) -> Document:
    """Run the job to its end and return the fields of its description that changed."""
    entry = job.get("AlgorithmSpecification", {}).get("ContainerEntrypoint")
    if not entry:
        return _failed("AlgorithmSpecification.ContainerEntrypoint names no program; the stand-in runs no images")
    command = [*entry, *job["AlgorithmSpecification"].get("ContainerArguments", [])]
    parameters = {str(key): str(value) for key, value in (job.get("HyperParameters") or {}).items()}
    model, output, config = folder / "model", folder / "output", folder / "input" / "config"
    for path in (model, output / "data", config):
        path.mkdir(parents=True, exist_ok=True)
    (config / "hyperparameters.json").write_text(json.dumps(parameters))
    environment = {
        **os.environ,
        **(job.get("Environment") or {}),
        "SM_MODEL_DIR": str(model),
        "SM_OUTPUT_DATA_DIR": str(output / "data"),
        "SM_HPS": json.dumps(parameters),
        "TRAINING_JOB_NAME": job["TrainingJobName"],
    }
    for channel in job.get("InputDataConfig") or []:
        source = channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", "")
        environment[f"SM_CHANNEL_{channel['ChannelName'].upper()}"] = source
    log = folder / "training.log"
    try:
        child = starter.start(
            lambda: Child("the training job", command, log=log, environment=environment, folder=Path.cwd())
        )
    except StackUnavailable as error:
        return _failed(str(error))
    limit = (job.get("StoppingCondition") or {}).get("MaxRuntimeInSeconds", 3600)
    deadline = time.monotonic() + limit
    while child.exit_code() is None:
        if time.monotonic() > deadline:
            child.stop()
            return _failed(f"ran longer than MaxRuntimeInSeconds, {limit}")
        time.sleep(0.05)
    if child.exit_code() != 0:
        return _failed(f"AlgorithmError: the program ended with code {child.exit_code()}: {child.last_words()}")
    artifact = output / "model.tar.gz"
    with tarfile.open(artifact, "w:gz") as archive:
        archive.add(model, arcname=".")
    return {
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": artifact.as_uri()},
    }


def _failed(reason: str) -> Document:
    return {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
