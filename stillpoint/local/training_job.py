"""A SageMaker training job as a plain process.

The job's `ContainerEntrypoint` (with `ContainerArguments`; `python` means the one that runs the stand-in) is run with
/opt/ml mapped to a folder: `SM_INPUT_DIR`, `SM_MODEL_DIR`, `SM_OUTPUT_DIR`, `SM_OUTPUT_DATA_DIR`, each channel copied to
`SM_CHANNEL_<NAME>`, hyperparameters in `SM_HPS` and in `input/config/hyperparameters.json`. What it leaves in `model/`
becomes `model.tar.gz` below `S3OutputPath` (without a store: a file); what it says in `output/failure` becomes the reason.
"""

import json
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillpoint.errors import StackUnavailable
from stillpoint.local.container import FetchAll, Starter, Store
from stillpoint.local.process import Child

Document = dict[str, Any]


def run_training_job(
    job: Document, folder: Path, starter: Starter, fetch_all: FetchAll, store: Store | None
) -> Document:
    """Run the job to its end and return the fields of its description that changed.

    As with SageMaker's machines, nothing of its data is left here afterwards; without a store the artifact is.
    """
    try:
        return _run(job, folder, starter, fetch_all, store)
    finally:
        for own in (folder / "input" / "data", folder / "model"):
            shutil.rmtree(own, ignore_errors=True)
        if store is not None:
            (folder / "output" / "model.tar.gz").unlink(missing_ok=True)


def _run(job: Document, folder: Path, starter: Starter, fetch_all: FetchAll, store: Store | None) -> Document:
    entry = job.get("AlgorithmSpecification", {}).get("ContainerEntrypoint")
    if not entry:
        return _failed("AlgorithmSpecification.ContainerEntrypoint names no program; the stand-in runs no images")
    entry = [sys.executable if entry[0] == "python" else entry[0], *entry[1:]]
    command = [*entry, *job["AlgorithmSpecification"].get("ContainerArguments", [])]
    parameters = {str(key): str(value) for key, value in (job.get("HyperParameters") or {}).items()}
    model, output, config = folder / "model", folder / "output", folder / "input" / "config"
    for path in (model, output / "data", config):
        path.mkdir(parents=True, exist_ok=True)
    (config / "hyperparameters.json").write_text(json.dumps(parameters))
    environment = {
        **os.environ,
        **(job.get("Environment") or {}),
        "SM_INPUT_DIR": str(folder / "input"),
        "SM_MODEL_DIR": str(model),
        "SM_OUTPUT_DIR": str(output),
        "SM_OUTPUT_DATA_DIR": str(output / "data"),
        "SM_HPS": json.dumps(parameters),
        "TRAINING_JOB_NAME": job["TrainingJobName"],
    }
    for channel in job.get("InputDataConfig") or []:
        source = channel.get("DataSource", {}).get("S3DataSource", {}).get("S3Uri", "")
        local = folder / "input" / "data" / channel["ChannelName"]
        try:
            _copy(fetch_all(source), local)
        except Exception as error:  # noqa: BLE001  whatever S3 said is the job's reason to fail
            return _failed(f"ClientError: channel {channel['ChannelName']} at {source} cannot be read: {error}")
        environment[f"SM_CHANNEL_{channel['ChannelName'].upper()}"] = str(local)
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
        failure = output / "failure"
        reason = failure.read_text() if failure.exists() else child.last_words()
        return _failed(f"AlgorithmError: the program ended with code {child.exit_code()}: {reason}")
    artifact = output / "model.tar.gz"
    with tarfile.open(artifact, "w:gz") as archive:
        archive.add(model, arcname=".")
    address = artifact.as_uri()
    if store is not None:
        address = f"{job['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job['TrainingJobName']}/output/model.tar.gz"
        try:
            store(address, artifact.read_bytes())
        except Exception as error:  # noqa: BLE001  whatever S3 said is the job's reason to fail
            return _failed(f"ClientError: the artifact cannot be written to {address}: {error}")
    return {
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": address},
    }


def _copy(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _failed(reason: str) -> Document:
    return {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
