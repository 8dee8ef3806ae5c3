"""The stand-in's CloudFormation creates the stacks that it has resources for, and our verbs run on their outputs alone."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from conftest import HERE, Templates
from outputs import settings_from

ROOT = HERE.parents[1]
ORDER = ("keys", "notices", "storage", "events", "registry", "caches", "roles", "alarms")
SECONDS = 60.0
Client = Callable[[str], Any]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stand-in of our own, with every service that the stacks ask for."""
    folder = tmp_path_factory.mktemp("aws")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"], "GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1",
        "SFTP_ENABLED": "0", "IOT_MTLS_ENABLED": "0", "LOG_LEVEL": "WARNING", "TMPDIR": str(folder), "HOME": str(folder),
        "S3_DATA_DIR": str(folder / "s3"), "STATE_DIR": str(folder / "state"),
    }  # fmt: skip
    command = [ROOT / ".venv-aws" / "bin" / "python", "-I", ROOT / "stillpoint" / "local" / "aws_program.py"]
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            wait(lambda: answers(url))
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_ministack/health", timeout=2):
            return True
    except OSError:
        return False


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def client(endpoint: str) -> Client:
    def make(service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    return make


@pytest.fixture(scope="module")
def outputs(
    endpoint: str, client: Client, templates: Callable[[str], Templates], tmp_path_factory: Any
) -> dict[str, str]:
    """Create the stacks in their order, and return their outputs."""
    import json

    cloudformation = client("cloudformation")
    found: dict[str, str] = {}
    made = templates("stand_in")
    for concern in ORDER:
        name = f"stillpoint-stand-in-{concern}"
        cloudformation.create_stack(
            StackName=name, TemplateBody=json.dumps(made[concern]), Capabilities=["CAPABILITY_NAMED_IAM"]
        )

        def status(stack: str = name) -> dict[str, Any]:
            return cloudformation.describe_stacks(StackName=stack)["Stacks"][0]

        wait(lambda: not status()["StackStatus"].endswith("IN_PROGRESS"))
        stack = status()
        reasons = [
            f"{one['LogicalResourceId']}: {one.get('ResourceStatusReason')}"
            for one in cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            if "FAILED" in one["ResourceStatus"]
        ]
        assert stack["StackStatus"] == "CREATE_COMPLETE", f"{concern}: {reasons}"
        found |= {one["OutputKey"]: one["OutputValue"] for one in stack.get("Outputs", [])}
    return found


def test_the_stacks_are_created_and_what_they_promise_is_there(outputs: dict[str, str], client: Client) -> None:
    settings = settings_from(outputs)
    queues = client("sqs")
    url = queues.get_queue_url(QueueName=settings["STILLPOINT_PREDICTION_QUEUE"])["QueueUrl"]
    assert "RedrivePolicy" in queues.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    stream = client("kinesis").describe_stream_summary(StreamName=settings["STILLPOINT_EVENT_STREAM"])
    assert stream["StreamDescriptionSummary"]["RetentionPeriodHours"] == 48
    bucket = settings["STILLPOINT_LAKE"].removeprefix("s3://").split("/")[0]
    assert client("s3").get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    roles = {one["RoleName"] for one in client("iam").list_roles()["Roles"]}
    assert {"stillpoint-stand-in-stream", "stillpoint-stand-in-worker", "stillpoint-stand-in-service"} <= roles


def test_events_run_through_with_no_other_setting_than_the_outputs(
    outputs: dict[str, str], endpoint: str, client: Client, tmp_path: Path
) -> None:
    settings = settings_from(outputs)
    assert settings["STILLPOINT_AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    environment = settings | {
        "STILLPOINT_AWS_ENDPOINT_URL": endpoint,  # the port that this test's stand-in got
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STILLPOINT_HOME": str(tmp_path / "home"),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }

    def stillpoint(*words: str) -> None:
        done = subprocess.run(
            [ROOT / ".venv" / "bin" / "stillpoint", *words],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    live = tmp_path / "live.jsonl"
    stillpoint(
        "events",
        "simulate",
        "--users",
        "10",
        "--days",
        "1",
        "--contents",
        "20",
        "--malformed",
        "0",
        "--output",
        str(live),
    )
    stillpoint("events", "publish", str(live), "--rebase")
    stillpoint("events", "simulate", "--users", "10", "--days", "1", "--contents", "20")
    kinesis, name = client("kinesis"), settings["STILLPOINT_EVENT_STREAM"]
    shard = kinesis.list_shards(StreamName=name)["Shards"][0]["ShardId"]
    start = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")[
        "ShardIterator"
    ]
    assert len(kinesis.get_records(ShardIterator=start)["Records"]) == len(live.read_text().splitlines())
    bucket, _, prefix = settings["STILLPOINT_LAKE"].removeprefix("s3://").partition("/")
    assert client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/events/")["KeyCount"] > 0
