"""Runs training as a SageMaker job, copies the model into the lake, and deploys models to endpoints.

The same calls reach AWS and the stand-in. An artifact is accepted only if its bundle has the digest in its name.
"""

import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stillpoint.errors import CorruptData, InvalidInput, ModelRefused, NotFound, StackUnavailable
from stillpoint.lake.tables import Lake
from stillpoint.model import ModelBundle, model_key
from stillpoint.settings import Settings
from training.collaborative import write_mapping
from training.sagemaker_program import EVALUATION, MAPPING
from training.train import Evaluation, report_key

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

PROGRAM = ("python", "-m", "training.sagemaker_program")
ARTIFACTS = "sagemaker"
INSTANCE = "ml.m5.xlarge"
ENDPOINT_INSTANCE = "ml.m5.large"
FIRST_POLL_SECONDS = 0.2
LONGEST_POLL_SECONDS = 30.0
POLL_GROWTH = 1.1
_NAME = re.compile(r"-[0-9a-f]{12}-[0-9]+")


def train_at_sagemaker(
    client: "SageMakerClient",
    settings: Settings,
    *,
    job: str,
    snapshot_id: str,
    mapping_version: int,
    limit_seconds: int = 3_600,
    program: Sequence[str] = PROGRAM,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Run a training job to its end and return where its artifact lies.

    Raises:
        InvalidInput: the lake is not in S3.
        StackUnavailable: the job failed or ran too long; the text quotes SageMaker's failure reason.
    """
    if not settings.lake.startswith("s3://"):
        raise InvalidInput(f"the lake is {settings.lake}; a job at SageMaker reads it from s3://…")
    root = settings.lake.rstrip("/")
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"{root}/snapshots/{snapshot_id}/",
        "S3DataDistributionType": "FullyReplicated",
    }
    channel: Any = {"ChannelName": "snapshot", "DataSource": {"S3DataSource": source}}
    machine: Any = {"InstanceType": INSTANCE, "InstanceCount": 1, "VolumeSizeInGB": 20}
    client.create_training_job(
        TrainingJobName=job,
        RoleArn=settings.sagemaker_role,
        AlgorithmSpecification={
            "TrainingImage": settings.sagemaker_image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": list(program),
        },
        HyperParameters={
            "snapshot_id": snapshot_id,
            "mapping_version": str(mapping_version),
            "seed": str(settings.seed),
        },
        InputDataConfig=[channel],
        OutputDataConfig={"S3OutputPath": f"{root}/{ARTIFACTS}"},
        ResourceConfig=machine,
        StoppingCondition={"MaxRuntimeInSeconds": limit_seconds},
        Environment={
            "STILLPOINT_LAKE": settings.lake,
            "STILLPOINT_AWS_REGION": settings.aws_region,
            "STILLPOINT_AWS_ENDPOINT_URL": settings.aws_endpoint_url or "aws",
        },
    )
    for pause in _pauses():
        found = client.describe_training_job(TrainingJobName=job)
        if found["TrainingJobStatus"] == "Completed":
            return found["ModelArtifacts"]["S3ModelArtifacts"]
        if found["TrainingJobStatus"] in ("Failed", "Stopped"):
            raise StackUnavailable(f"training job {job} failed: {found.get('FailureReason', 'it gave no reason')}")
        sleep(pause)
    raise AssertionError("pauses never end")


def collect(lake: Lake, artifact: bytes) -> ModelBundle:
    """Copy a job's artifact into the lake: mapping, report, then the bundle, which is returned. Can be repeated.

    Raises:
        CorruptData: it is no artifact of this program. ModelRefused: the bundle does not have the digest in its name.
        AlreadyExists: another mapping has this version.
    """
    files = _unpacked(artifact)
    names = [name for name in files if name.endswith(".tar.gz")]
    if len(names) != 1:
        raise CorruptData(f"the job's artifact holds {len(names)} bundles (*.tar.gz); expected exactly one")
    bundle = ModelBundle.load(files[names[0]], expected_sha256=names[0].removesuffix(".tar.gz"))
    try:
        users = json.loads(files[MAPPING])["user_ids"]
        evaluation = Evaluation.model_validate_json(files[EVALUATION])
    except (KeyError, ValueError, ValidationError) as error:
        raise CorruptData(f"the job's artifact lacks its mapping or evaluation: {error!r}") from None
    manifest = bundle.manifest
    if len(users) != bundle.user_count:
        raise ModelRefused(
            f"the artifact maps {len(users)} users and its model knows {bundle.user_count}; they do not belong together"
        )
    write_mapping(lake, users, mapping_version=manifest.mapping_version, cutoff=manifest.created_at)
    lake.objects.put(report_key(bundle.sha256), evaluation.model_dump_json(indent=1).encode())
    lake.objects.put(bundle.key, bundle.data)
    return bundle


def fetch_artifact(lake: Lake, address: str) -> bytes:
    """Return the bytes of a job's artifact, which lies in the lake's bucket.

    Raises:
        InvalidInput: the address is not below the lake. ObjectMissing: nothing lies there.
    """
    prefix = f"{lake.root.rstrip('/')}/{ARTIFACTS}/"
    if not address.startswith(prefix):
        raise InvalidInput(f"the artifact is at {address!r}; expected it below {prefix}")
    return lake.objects.get(f"{ARTIFACTS}/{address.removeprefix(prefix)}")


def deploy(
    client: "SageMakerClient",
    lake: Lake,
    settings: Settings,
    *,
    endpoint: str,
    model_sha256: str,
    now: datetime,
    wait_seconds: float = 900.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Deploy a model of the lake to a new or existing endpoint. If an update fails, the previous model keeps answering.

    Raises:
        InvalidInput: the lake is not in S3. ObjectMissing: there is no such model. ModelRefused: it is damaged.
        StackUnavailable: the container did not become healthy; the text quotes SageMaker's reason.
    """
    if not lake.root.startswith("s3://"):
        raise InvalidInput(f"the lake is {lake.root}; SageMaker reads models from s3://…")
    bundle = ModelBundle.load(lake.objects.get(model_key(model_sha256)), expected_sha256=model_sha256)
    key = f"endpoints/{model_sha256}/model.tar.gz"
    lake.objects.put(key, _packed(f"{model_sha256}.tar.gz", bundle.data))
    name = f"{endpoint}-{model_sha256[:12]}-{int(now.timestamp())}"
    client.create_model(
        ModelName=name,
        ExecutionRoleArn=settings.sagemaker_role,
        PrimaryContainer={"Image": settings.sagemaker_image, "ModelDataUrl": f"{lake.root}/{key}"},
    )
    variant: Any = {
        "VariantName": "all",
        "ModelName": name,
        "InitialInstanceCount": 1,
        "InstanceType": ENDPOINT_INSTANCE,
    }
    client.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[variant],
    )
    if _exists(client, endpoint):
        client.update_endpoint(EndpointName=endpoint, EndpointConfigName=name)
    else:
        client.create_endpoint(EndpointName=endpoint, EndpointConfigName=name)
    _wait_in_service(client, endpoint, name, wait_seconds, sleep)


def undeploy(client: "SageMakerClient", *, endpoint: str) -> None:
    """Delete an endpoint with its configurations and SageMaker models; the lake is not touched. Can be repeated after an interruption.

    Raises:
        NotFound: there is no such endpoint, nor anything left of one.
    """
    there = _exists(client, endpoint)
    if there:
        client.delete_endpoint(EndpointName=endpoint)
    names = [
        one["EndpointConfigName"] for one in client.list_endpoint_configs(NameContains=endpoint)["EndpointConfigs"]
    ]
    for name in names:
        if _NAME.fullmatch(name.removeprefix(endpoint)):
            there = True
            client.delete_endpoint_config(EndpointConfigName=name)
            client.delete_model(ModelName=name)
    if not there:
        raise NotFound(f"there is no endpoint {endpoint}; nothing was deleted")


def _exists(client: "SageMakerClient", endpoint: str) -> bool:
    return any(one["EndpointName"] == endpoint for one in client.list_endpoints(NameContains=endpoint)["Endpoints"])


def _wait_in_service(
    client: "SageMakerClient", endpoint: str, config: str, seconds: float, sleep: Callable[[float], None]
) -> None:
    end = time.monotonic() + seconds
    for pause in _pauses():
        found = client.describe_endpoint(EndpointName=endpoint)
        status, reason = found["EndpointStatus"], found.get("FailureReason")
        if status == "InService" and found["EndpointConfigName"] == config:
            return
        if status == "Failed" or (status == "InService" and reason):
            raise StackUnavailable(f"endpoint {endpoint} did not take the model: {reason or 'it gave no reason'}")
        if time.monotonic() > end:
            raise StackUnavailable(f"endpoint {endpoint} is still {status} after {seconds:.0f} s")
        sleep(pause)


def _pauses() -> Iterator[float]:
    """Yield the pauses between polls in seconds, without end: short at first, each a tenth longer, at most half a minute.

    A job of an hour is polled about 160 times; the end of a short one is seen at once.
    """
    pause = FIRST_POLL_SECONDS
    while True:
        yield pause
        pause = min(pause * POLL_GROWTH, LONGEST_POLL_SECONDS)


def _packed(name: str, data: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def _unpacked(artifact: bytes) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(artifact), mode="r:gz") as archive:
            members = [one for one in archive.getmembers() if one.isfile()]
            return {PurePosixPath(one.name).name: archive.extractfile(one).read() for one in members}  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise CorruptData(f"the job's artifact cannot be unpacked: {error}; expected a tar.gz") from None
