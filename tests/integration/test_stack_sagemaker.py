"""boto3 and sagemaker-core find on this machine what they find at SageMaker."""

import io
import json
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError, WaiterError

from stillpoint.errors import CorruptData
from stillpoint.local.container import unpack
from stillpoint.local.sagemaker import SageMakerServer
from stillpoint.local.sagemaker_control import ControlPlane

CONTAINER = """
import http.server, os, pathlib, sys, time
model = pathlib.Path(os.environ["SM_MODEL_DIR"], "answer").read_text()
if model == "dies":
    sys.exit("the model file is broken")
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, data):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        self.answer(200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if body == b"bad":
            return self.answer(415, b"no such column")
        if body == b"slow":
            time.sleep(1)
        self.answer(200, model.encode() + b":" + body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()
"""
ROLE = "arn:aws:iam::000000000000:role/stillpoint-sagemaker"


def artifact(answer: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        entry = tarfile.TarInfo("answer")
        entry.size = len(answer)
        archive.addfile(entry, io.BytesIO(answer.encode()))
    return sink.getvalue()


@pytest.fixture
def server(tmp_path: Path, programs: None) -> Iterator[SageMakerServer]:
    program = tmp_path / "container.py"
    program.write_text(CONTAINER)
    control = ControlPlane(
        tmp_path / "home", lambda address: artifact(address.rpartition("/")[2]), [sys.executable, str(program)]
    )
    server = SageMakerServer(control)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def clients(server: SageMakerServer):
    arguments = {
        "endpoint_url": server.endpoint_url,
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    return boto3.client("sagemaker", **arguments), boto3.client("sagemaker-runtime", **arguments)


def configure(sagemaker, name: str) -> str:
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "i", "ModelDataUrl": f"s3://models/{name}"}
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {"VariantName": "all", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        ],
    )
    return name


def wait(sagemaker, endpoint: str = "ranker") -> dict:
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=endpoint, WaiterConfig={"Delay": 0.1, "MaxAttempts": 200}
    )
    return sagemaker.describe_endpoint(EndpointName=endpoint)


def invoke(runtime, body: bytes = b"x") -> bytes:
    return runtime.invoke_endpoint(EndpointName="ranker", Body=body, ContentType="application/json")["Body"].read()


def test_endpoint_is_created_invoked_updated_and_deleted(clients) -> None:
    sagemaker, runtime = clients
    sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "first"))
    with pytest.raises(ClientError, match="already existing endpoint"):
        sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName="first")
    assert wait(sagemaker)["ProductionVariants"][0]["VariantName"] == "all"
    assert invoke(runtime) == b"first:x"
    sagemaker.update_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "second"))
    assert wait(sagemaker)["EndpointConfigName"] == "second"
    assert invoke(runtime) == b"second:x"
    sagemaker.delete_endpoint(EndpointName="ranker")
    with pytest.raises(ClientError, match="Could not find endpoint"):
        sagemaker.describe_endpoint(EndpointName="ranker")
    with pytest.raises(ClientError, match="Endpoint ranker of account 000000000000 not found"):
        invoke(runtime)


def test_update_drops_no_request_and_lets_a_slow_one_finish_on_the_old_container(clients) -> None:
    sagemaker, runtime = clients
    sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "first"))
    configure(sagemaker, "second")
    wait(sagemaker)
    slow: list[bytes] = []
    thread = threading.Thread(target=lambda: slow.append(invoke(runtime, b"slow")))
    thread.start()
    sagemaker.update_endpoint(EndpointName="ranker", EndpointConfigName="second")
    answers = []
    deadline = time.monotonic() + 20
    while (not answers or answers[-1] != b"second:x") and time.monotonic() < deadline:
        answers.append(invoke(runtime))
    thread.join()
    assert answers[-1] == b"second:x"
    assert set(answers) <= {b"first:x", b"second:x"}
    assert slow == [b"first:slow"]


def test_container_that_dies_at_start_fails_with_its_last_words(clients) -> None:
    sagemaker, _ = clients
    sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "dies"))
    with pytest.raises(WaiterError):
        wait(sagemaker)
    found = sagemaker.describe_endpoint(EndpointName="ranker")
    assert found["EndpointStatus"] == "Failed"
    assert "the model file is broken" in found["FailureReason"]


def test_failed_update_leaves_the_old_container_answering(clients) -> None:
    sagemaker, runtime = clients
    sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "first"))
    wait(sagemaker)
    sagemaker.update_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "dies"))
    found = wait(sagemaker)
    assert found["EndpointConfigName"] == "first"
    assert "the model file is broken" in found["FailureReason"]
    assert invoke(runtime) == b"first:x"


def test_refusal_by_the_container_reaches_the_caller_as_a_model_error(clients) -> None:
    sagemaker, runtime = clients
    sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "first"))
    wait(sagemaker)
    with pytest.raises(ClientError) as caught:
        invoke(runtime, b"bad")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 415
    assert caught.value.response["OriginalMessage"] == "no such column"


def test_endpoint_of_a_missing_configuration_is_refused(clients) -> None:
    with pytest.raises(ClientError, match=r"ValidationException.*Could not find endpoint-config"):
        clients[0].create_endpoint(EndpointName="ranker", EndpointConfigName="none")


def test_training_job_runs_the_entry_program_and_keeps_its_model(clients) -> None:
    sagemaker, _ = clients
    program = (
        "import json, os, pathlib; "
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'rounds').write_text(json.loads(os.environ['SM_HPS'])['rounds'])"
    )
    found = train(sagemaker, "good", program)
    assert found["TrainingJobStatus"] == "Completed"
    path = found["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://")
    with tarfile.open(path) as archive:
        assert archive.extractfile("./rounds").read() == b"7"


def test_training_program_that_fails_is_named_with_its_last_words(clients) -> None:
    found = train(clients[0], "bad", "raise SystemExit('no rows')")
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"] == "AlgorithmError: the program ended with code 1: no rows"


def train(sagemaker, name: str, program: str) -> dict:
    sagemaker.create_training_job(
        TrainingJobName=name,
        RoleArn=ROLE,
        AlgorithmSpecification={
            "TrainingImage": "i",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": [sys.executable, "-c", program],
        },
        HyperParameters={"rounds": "7"},
        OutputDataConfig={"S3OutputPath": "s3://models/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    deadline = time.monotonic() + 30
    while True:
        found = sagemaker.describe_training_job(TrainingJobName=name)
        if found["TrainingJobStatus"] != "InProgress" or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_endpoints_come_back_after_a_restart(tmp_path: Path, server: SageMakerServer, clients) -> None:
    sagemaker, _ = clients
    sagemaker.create_endpoint(EndpointName="ranker", EndpointConfigName=configure(sagemaker, "first"))
    wait(sagemaker)
    again = SageMakerServer(
        ControlPlane(
            tmp_path / "home", lambda address: artifact("restarted"), [sys.executable, str(tmp_path / "container.py")]
        )
    )
    again.start()
    arguments = {"endpoint_url": again.endpoint_url, "region_name": "us-east-1"} | {
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    wait(boto3.client("sagemaker", **arguments))
    assert invoke(boto3.client("sagemaker-runtime", **arguments)) == b"restarted:x"
    again.stop()


def test_sagemaker_core_creates_and_invokes(server: SageMakerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_SAGEMAKER": server.endpoint_url,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": server.endpoint_url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    from sagemaker.core.resources import Endpoint, EndpointConfig, Model
    from sagemaker.core.shapes import ContainerDefinition, ProductionVariant
    from sagemaker.core.utils.utils import SageMakerClient

    SageMakerClient.reset()

    Model.create(
        model_name="core",
        execution_role_arn=ROLE,
        primary_container=ContainerDefinition(image="i", model_data_url="s3://models/core"),
    )
    variant = ProductionVariant(
        variant_name="all", model_name="core", initial_instance_count=1, instance_type="ml.m5.large"
    )
    EndpointConfig.create(endpoint_config_name="core", production_variants=[variant])
    endpoint = Endpoint.create(endpoint_name="core", endpoint_config_name="core")
    endpoint.wait_for_status("InService", poll=1, timeout=30)
    answer = endpoint.invoke(body=json.dumps([1]).encode(), content_type="application/json")
    assert answer.body.read() == b"core:[1]"
    endpoint.delete()


@pytest.mark.parametrize("data", [b"", b"no archive", artifact("x")[:20]], ids=["empty", "text", "cut off"])
def test_artifact_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CorruptData, match=r"cannot be unpacked: .*expected a tar.gz"):
        unpack(data, tmp_path)
