"""The program that runs inside SageMaker's training container: the same training as on this machine.

Script mode's contract: hyperparameters in `/opt/ml/input/config/hyperparameters.json`, the snapshot as the channel `snapshot`
(or from the lake), results in `/opt/ml/model`, a reason in `/opt/ml/output/failure`. `SM_…` variables move the folders.
Events and content come from the lake that `STILLPOINT_LAKE` names, under the job's role. Nothing is written to the lake:
whoever started the job copies the artifact (`training.sagemaker_job.collect`).
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stillpoint.errors import InvalidInput, StillpointError
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings
from stillpoint.snapshots import Snapshot, load_snapshot
from training.train import TrainedModel, train

MAPPING = "mapping.json"
EVALUATION = "evaluation.json"


class Parameters(BaseModel):
    """The job's hyperparameters. SageMaker hands all of them over as text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot_id: str
    mapping_version: int = Field(ge=1)
    seed: int = 7


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Train and write the artifact. On failure write one sentence to SageMaker's failure file, and return 1."""
    output = Path(environment.get("SM_OUTPUT_DIR", "/opt/ml/output"))
    try:
        write(run(environment), Path(environment.get("SM_MODEL_DIR", "/opt/ml/model")))
    except Exception as error:  # noqa: BLE001  whatever it was, SageMaker shows only what this file says
        reason = str(error) if isinstance(error, StillpointError) else f"{type(error).__name__}: {error}"
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").write_text(reason)
        sys.stderr.write(f"error: {reason}\n")
        return 1
    return 0


def run(environment: Mapping[str, str]) -> TrainedModel:
    """Train as the hyperparameters say.

    Raises:
        InvalidInput: a hyperparameter is missing, unknown or malformed, or the channel holds another snapshot.
    """
    inputs = Path(environment.get("SM_INPUT_DIR", "/opt/ml/input"))
    config = inputs / "config" / "hyperparameters.json"
    try:
        parameters = Parameters.model_validate(json.loads(config.read_text()))
    except FileNotFoundError:
        raise InvalidInput(f"there are no hyperparameters: {config} does not exist") from None
    except (ValidationError, json.JSONDecodeError) as error:
        problems = error.errors() if isinstance(error, ValidationError) else [{"loc": (), "msg": str(error)}]
        told = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}" for one in problems)
        raise InvalidInput(f"hyperparameters refused; {told}") from None
    settings = Settings.load()
    lake = open_lake(settings)
    channel = Path(environment.get("SM_CHANNEL_SNAPSHOT", inputs / "data" / "snapshot"))
    snapshot = _snapshot(lake, parameters.snapshot_id, channel)
    return train(lake, snapshot, mapping_version=parameters.mapping_version, seed=parameters.seed, progress=_say)


def write(trained: TrainedModel, folder: Path) -> None:
    """Write the bundle, the users in order of their sequence ids, and the evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{trained.bundle.sha256}.tar.gz").write_bytes(trained.bundle.data)
    (folder / MAPPING).write_text(json.dumps({"user_ids": trained.factors.user_ids}))
    (folder / EVALUATION).write_text(trained.evaluation.model_dump_json(indent=1))


def _snapshot(lake: Lake, snapshot_id: str, channel: Path) -> Snapshot:
    if not (channel / "manifest.json").exists():
        return load_snapshot(lake, snapshot_id)
    folder = channel.absolute()
    found = load_snapshot(Lake(LocalObjects(folder.parent), lake.features), snapshot_id, folder=folder.name)
    if found.manifest.id != snapshot_id:
        raise InvalidInput(f"the channel holds snapshot {found.manifest.id}; the hyperparameters name {snapshot_id}")
    return found


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
