"""The same training runs as a SageMaker job, and its model behind an endpoint; stand-in, S3 and model server are real."""

import io
import json
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError
from mlflow.tracking import MlflowClient

from stillpoint.cli import run
from stillpoint.clock import system_clock
from stillpoint.errors import CorruptData, InvalidInput, ModelRefused, NotFound, ObjectMissing, StackUnavailable
from stillpoint.lake.objects import S3Objects
from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.container import fetch_all_with, fetch_with, store_with
from stillpoint.local.sagemaker import SageMakerServer
from stillpoint.local.sagemaker_control import ControlPlane
from stillpoint.model import ModelBundle
from stillpoint.registered_models import CANDIDATE, DIGEST_TAG, MODEL_NAME
from stillpoint.settings import Settings
from tests.support.training_world import World, make_world
from tests.support.wellness import FEATURES
from training import sagemaker_program
from training.sagemaker_job import ARTIFACTS, collect, deploy, fetch_artifact, train_at_sagemaker, undeploy
from training.snapshot_columns import snapshot_columns
from training.train import keep, report_key, train

SEED = 7


@dataclass
class Site:
    """A trained world in S3, with a SageMaker that reads from there."""

    world: World
    settings: Settings
    client: Any
    runtime: Any
    machines: Path

    @property
    def snapshot_id(self) -> str:
        return self.world.snapshot.manifest.id

    def train(self, job: str, **changes: Any) -> str:
        wanted: dict[str, Any] = {"snapshot_id": self.snapshot_id, "mapping_version": 1} | changes
        return train_at_sagemaker(self.client, self.settings, job=job, **wanted)

    def invoke(self, endpoint: str, document: object) -> Any:
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, Body=json.dumps(document).encode(), ContentType="application/json"
        )
        return json.loads(answer["Body"].read())


@pytest.fixture(scope="module")
def site(aws: AwsServer, programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="sagemaker-training")
    lake = Lake(S3Objects(s3, "sagemaker-training", "lake"), FEATURES)
    made = make_world(tmp_path_factory.mktemp("site"), users=300, days=8)
    for key in made.lake.objects.list(""):
        lake.objects.put(key, made.lake.objects.get(key))
    world = replace(made, lake=lake)
    arguments = {
        "region_name": "us-east-1",
        "endpoint_url": aws.endpoint_url,
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    machines = tmp_path_factory.mktemp("sagemaker")
    control = ControlPlane(
        machines,
        fetch_with(s3),
        [sys.executable, "-m", "inference.model_server"],
        fetch_all=fetch_all_with(arguments),
        store=store_with(arguments),
    )
    server = SageMakerServer(control)
    server.start()
    sagemaker = arguments | {"endpoint_url": server.endpoint_url}
    settings = Settings(
        _env_file=None, lake=lake.root, aws_endpoint_url=aws.endpoint_url, sagemaker_endpoint_url=server.endpoint_url
    )
    yield Site(
        world,
        settings,
        boto3.client("sagemaker", **sagemaker),
        boto3.client("sagemaker-runtime", **sagemaker),
        machines,
    )
    server.stop()


def archive(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as packed:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


@pytest.fixture(scope="module")
def other(site: Site) -> ModelBundle:
    """A second model in the lake."""
    bundle = train(site.world.lake, site.world.snapshot, mapping_version=1, seed=8, with_baselines=False).bundle
    site.world.lake.objects.put(bundle.key, bundle.data)
    return bundle


def request_for(bundle: ModelBundle, site: Site) -> tuple[dict[str, Any], list[str]]:
    rows = site.world.snapshot.rows.slice(0, 4)
    content_ids = rows["content_id"].to_pylist()
    columns = bundle.select(snapshot_columns(rows), content_ids)
    plain = {name: [None if one != one else one for one in values.tolist()] for name, values in columns.items()}
    return plain, content_ids


def test_job_trains_the_same_model_as_the_command_on_this_machine(site: Site) -> None:
    lake, trained = site.world.lake, site.world.trained
    key = collect(lake, fetch_artifact(lake, site.train("good"))).key
    assert key == trained.bundle.key
    assert lake.objects.get(key) == trained.bundle.data
    assert lake.objects.get(report_key(trained.bundle.sha256)) == trained.evaluation.model_dump_json(indent=1).encode()
    assert collect(lake, lake.objects.get(f"{ARTIFACTS}/good/output/model.tar.gz")).key == key
    assert keep(lake, trained, cutoff=site.world.snapshot.manifest.cutoff) == key
    left = [path.name for path in (site.machines / "training" / "good").rglob("*") if path.is_file()]
    assert sorted(left) == ["hyperparameters.json", "training.log"], "nobody's rows or ids stay on the machine"


def test_command_trains_at_sagemaker_and_registers_the_model_with_its_job(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "lake": site.settings.lake,
        "home": str(tmp_path),
        "aws_endpoint_url": site.settings.aws_endpoint_url,
        "sagemaker_endpoint_url": site.settings.sagemaker_endpoint_url,
        "mlflow_tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"STILLPOINT_{name.upper()}", str(value))
    monkeypatch.chdir(tmp_path)
    always = ["--maximum-age-hours", "800000", "--mapping-version", "1"]
    assert run(["train", site.snapshot_id, "--on", "sagemaker", *always, "--json"]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "egistered model" not in said.err, "MLflow's own words are logged"
    report = json.loads(said.out.strip().splitlines()[-1])
    assert report["sha256"] == site.world.trained.bundle.sha256
    assert report["metrics"] == site.world.trained.evaluation.metrics()
    client = MlflowClient(values["mlflow_tracking_uri"])
    version = client.get_model_version_by_alias(MODEL_NAME, CANDIDATE)
    assert version.tags[DIGEST_TAG] == report["sha256"]
    assert version.run_id == report["mlflow_run"]
    assert client.get_run(version.run_id).data.tags["training_job"] == report["training_job"]


def test_reason_of_a_training_that_fails_reaches_who_started_it(site: Site) -> None:
    with pytest.raises(StackUnavailable) as caught:
        site.train("no-such-snapshot", snapshot_id="5" * 16)
    assert "training job no-such-snapshot failed: AlgorithmError" in str(caught.value)
    assert f"there is no snapshot '{'5' * 16}'" in str(caught.value)
    with pytest.raises(ObjectMissing):
        site.world.lake.objects.get(f"{ARTIFACTS}/no-such-snapshot/output/model.tar.gz")


def test_training_that_takes_too_long_is_ended_and_said_so(site: Site) -> None:
    with pytest.raises(StackUnavailable, match=r"job slow failed: .*longer than MaxRuntimeInSeconds, 1"):
        site.train("slow", limit_seconds=1, program=("python", "-c", "import time; time.sleep(60)"))


def test_job_that_could_not_read_the_lake_is_not_started(site: Site, tmp_path: Path) -> None:
    local = site.settings.model_copy(update={"lake": str(tmp_path)})
    with pytest.raises(InvalidInput, match="a job at SageMaker reads it from s3://"):
        train_at_sagemaker(site.client, local, job="local", snapshot_id="a", mapping_version=1)
    names = [job["TrainingJobName"] for job in site.client.list_training_jobs().get("TrainingJobs", [])]
    assert "local" not in names


def test_artifact_elsewhere_is_refused(site: Site) -> None:
    with pytest.raises(InvalidInput, match=r"the artifact is at 's3://other/model\.tar\.gz'; expected it below"):
        fetch_artifact(site.world.lake, "s3://other/model.tar.gz")


@pytest.mark.parametrize(
    ("change", "refusal", "sentence"),
    [
        (lambda files, name: files, CorruptData, "lacks its mapping or evaluation"),
        (lambda files, name: files | {f"{'0' * 64}.tar.gz": files[name]}, CorruptData, "holds 2 bundles"),
        (lambda files, name: {f"{'0' * 64}.tar.gz": files[name]}, ModelRefused, "digest|sha256"),
        (lambda files, name: {name: files[name][:-50]}, ModelRefused, "digest|sha256"),
        (
            lambda files, name: files | {sagemaker_program.MAPPING: b'{"user_ids": ["one"]}'},
            CorruptData,
            "lacks its mapping or evaluation",
        ),
    ],
    ids=["no mapping", "two bundles", "under another name", "cut off", "no evaluation"],
)
def test_wrong_artifact_is_refused_and_leaves_nothing(
    lake: Lake, site: Site, change: Any, refusal: type[Exception], sentence: str
) -> None:
    bundle = site.world.trained.bundle
    name = f"{bundle.sha256}.tar.gz"
    with pytest.raises(refusal, match=sentence):
        collect(lake, archive(change({name: bundle.data}, name)))
    assert list(lake.objects.list("")) == []


def test_mapping_of_other_users_is_refused(lake: Lake, site: Site, tmp_path: Path) -> None:
    sagemaker_program.write(site.world.trained, tmp_path)
    (tmp_path / sagemaker_program.MAPPING).write_text('{"user_ids": ["one"]}')
    with pytest.raises(ModelRefused, match=r"maps 1 users and its model knows .* do not belong together"):
        collect(lake, archive({path.name: path.read_bytes() for path in tmp_path.iterdir()}))
    assert list(lake.objects.list("")) == []


def test_endpoint_scores_as_the_bundle_does_and_an_update_drops_no_request(site: Site, other: ModelBundle) -> None:
    lake, first, second = site.world.lake, site.world.trained.bundle, other
    lake.objects.put(first.key, first.data)
    columns, content_ids = request_for(first, site)
    request = {"columns": columns, "content_ids": content_ids, "sequence_id": 0}
    deploy(site.client, lake, site.settings, endpoint="ranker", model_sha256=first.sha256, now=system_clock())
    answer = site.invoke("ranker", request)
    arrays = {name: np.array(values, object) for name, values in columns.items()}
    assert answer["model_sha256"] == first.sha256
    assert answer["scores"] == first.score(arrays, content_ids=content_ids, sequence_id=0).tolist()

    answered: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answered.append(site.invoke("ranker", request)["model_sha256"])

    asking = threading.Thread(target=ask)
    asking.start()
    deploy(site.client, lake, site.settings, endpoint="ranker", model_sha256=second.sha256, now=system_clock())
    ended.set()
    asking.join()
    assert set(answered) <= {first.sha256, second.sha256}
    assert site.invoke("ranker", request)["model_sha256"] == second.sha256

    with pytest.raises(ClientError, match="feature_nobody_knows"):
        site.invoke("ranker", request | {"columns": columns | {"feature_nobody_knows": [1] * 4}})
    undeploy(site.client, endpoint="ranker")
    with pytest.raises(NotFound, match="there is no endpoint ranker; nothing was deleted"):
        undeploy(site.client, endpoint="ranker")
    with pytest.raises(ClientError, match="not found"):
        site.invoke("ranker", request)
    assert site.client.list_models()["Models"] == []
    assert site.client.list_endpoint_configs()["EndpointConfigs"] == []


def test_model_whose_bytes_are_not_its_name_is_never_deployed(site: Site) -> None:
    lake, bundle = site.world.lake, site.world.trained.bundle
    wrong = "f" * 64
    lake.objects.put(f"models/{wrong}.tar.gz", bundle.data)
    with pytest.raises(ModelRefused, match=r"digest|sha256"):
        deploy(site.client, lake, site.settings, endpoint="wrong", model_sha256=wrong, now=system_clock())
    assert site.client.list_endpoints(NameContains="wrong")["Endpoints"] == []


def test_container_that_dies_at_start_leaves_the_former_model_answering(
    site: Site, other: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, good = site.world.lake, site.world.trained.bundle
    lake.objects.put(good.key, good.data)
    deploy(site.client, lake, site.settings, endpoint="steady", model_sha256=good.sha256, now=system_clock())
    columns, content_ids = request_for(good, site)
    put = lake.objects.put
    monkeypatch.setattr(lake.objects, "put", lambda key, data: put(key, archive({"empty": b""})))
    with pytest.raises(StackUnavailable, match=r"endpoint steady did not take the model: .*holds 0 bundles"):
        deploy(site.client, lake, site.settings, endpoint="steady", model_sha256=other.sha256, now=system_clock())
    answer = site.invoke("steady", {"columns": columns, "content_ids": content_ids, "sequence_id": None})
    assert answer["model_sha256"] == good.sha256
    undeploy(site.client, endpoint="steady")


def test_program_leaves_its_reason_where_sagemaker_looks(tmp_path: Path) -> None:
    environment = {"SM_INPUT_DIR": str(tmp_path / "input"), "SM_OUTPUT_DIR": str(tmp_path / "output")}
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    assert sagemaker_program.main(environment) == 1
    assert "there are no hyperparameters" in (tmp_path / "output" / "failure").read_text()
    (config / "hyperparameters.json").write_text('{"snapshot_id": "a", "mapping_version": "zero", "depth": "3"}')
    assert sagemaker_program.main(environment) == 1
    reason = (tmp_path / "output" / "failure").read_text()
    assert "mapping_version" in reason
    assert "depth" in reason


def test_job_and_endpoint_through_the_sagemaker_sdk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_SAGEMAKER": site.settings.sagemaker_endpoint_url or "",
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": site.settings.sagemaker_endpoint_url or "",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    from sagemaker.core.resources import TrainingJob
    from sagemaker.core.shapes import AlgorithmSpecification, OutputDataConfig, ResourceConfig, StoppingCondition
    from sagemaker.core.utils.utils import SageMakerClient

    SageMakerClient.reset()

    lake = site.world.lake
    job = TrainingJob.create(
        training_job_name="sdk",
        role_arn=site.settings.sagemaker_role,
        algorithm_specification=AlgorithmSpecification(
            training_image=site.settings.sagemaker_image,
            training_input_mode="File",
            container_entrypoint=["python", "-m", "training.sagemaker_program"],
        ),
        hyper_parameters={"snapshot_id": site.snapshot_id, "mapping_version": "1", "seed": str(SEED)},
        output_data_config=OutputDataConfig(s3_output_path=f"{lake.root}/{ARTIFACTS}"),
        resource_config=ResourceConfig(instance_type="ml.m5.xlarge", instance_count=1, volume_size_in_gb=20),
        stopping_condition=StoppingCondition(max_runtime_in_seconds=600),
        environment={
            "STILLPOINT_LAKE": lake.root,
            "STILLPOINT_AWS_ENDPOINT_URL": site.settings.aws_endpoint_url or "",
        },
    )
    job.wait(poll=1, logs=False, timeout=120)
    artifact = fetch_artifact(lake, job.refresh().model_artifacts.s3_model_artifacts)
    assert collect(lake, artifact).key == site.world.trained.bundle.key
