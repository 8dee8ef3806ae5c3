"""The embedded stack starts, stops and recovers as its user expects."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillpoint.errors import InvalidSettings, StackUnavailable
from stillpoint.local.process import ProcessIdentity, free_port, identify
from stillpoint.local.servers import servers
from stillpoint.local.stack import Stack
from stillpoint.settings import Settings

pytestmark = pytest.mark.usefixtures("whole_stack")


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Settings of a stack of one's own: Redis, AWS and SageMaker stand-ins; MLflow without a server."""
    redis = f"127.0.0.1:{free_port()},db=0"
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        aws_endpoint_url=f"http://127.0.0.1:{free_port()}",
        sagemaker_endpoint_url=f"http://127.0.0.1:{free_port()}",
        redis_green=redis,
        redis_blue=redis,
        redis_sandbox=redis,
        redis_serving=redis,
        redis_state=redis,
        mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )


@pytest.fixture
def environment(own: Settings) -> dict[str, str]:
    """The same settings as variables, for the command line."""
    names = [name for name in Settings.model_fields if name.startswith("redis_")]
    return {
        **os.environ,
        "STILLPOINT_HOME": str(own.home),
        "STILLPOINT_AWS_ENDPOINT_URL": str(own.aws_endpoint_url),
        "STILLPOINT_SAGEMAKER_ENDPOINT_URL": str(own.sagemaker_endpoint_url),
        "STILLPOINT_MLFLOW_TRACKING_URI": own.mlflow_tracking_uri,
        **{f"STILLPOINT_{name.upper()}": getattr(own, name).get_secret_value() for name in names},
    }


def stillpoint(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stillpoint", *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def ended(own: Settings) -> Iterator[None]:
    yield
    Stack(own).stop()


def processes(stack: Stack) -> list[ProcessIdentity]:
    return [identity for server in stack.status() if server.pid and (identity := identify(server.pid))]


def gone(found: list[ProcessIdentity], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(process.alive() for process in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(process.alive() for process in found)


def test_stack_as_a_context_starts_all_writes_the_yaml_files_and_stops_what_it_started(own: Settings) -> None:
    with Stack(own) as stack:
        assert [server.health for server in stack.status()] == ["up", "up", "up"]
        found = processes(stack)
        assert len(found) == 3
        assert stack.start() == [], "a second start finds all running"
        for colour in ("green", "blue", "sandbox"):
            assert (own.home / f"feature_store.{colour}.yaml").exists()
    assert gone(found)
    assert [server.health for server in stack.status()] == ["stopped", "stopped", "stopped"]
    assert not list((own.home / "run").glob("*.pid"))


@pytest.mark.usefixtures("ended")
def test_up_status_and_down_by_the_command_line_keep_data_and_leave_nothing_running(
    own: Settings, environment: dict[str, str]
) -> None:
    import boto3

    up = stillpoint("up", environment=environment)
    assert up.returncode == 0, up.stderr
    shown = json.loads(stillpoint("status", "--json", environment=environment).stdout)["servers"]
    assert {server["health"] for server in shown} == {"up"}
    assert all(server["version"] for server in shown)
    s3 = boto3.client("s3", **own.aws_client_arguments())
    s3.put_object(Bucket="stillpoint", Key="kept", Body=b"1")
    kinesis = boto3.client("kinesis", **own.aws_client_arguments())
    kinesis.put_record(StreamName=own.event_stream, Data=b"event", PartitionKey="u1")

    redis_process = identify(next(server["pid"] for server in shown if server["name"] == "redis"))
    os.kill(redis_process.pid, signal.SIGKILL)
    assert gone([redis_process])
    assert stillpoint("status", environment=environment).returncode == 1
    again = stillpoint("up", environment=environment)
    assert again.stdout.startswith("started Redis in"), again.stderr

    found = processes(Stack(own))
    assert stillpoint("down", environment=environment).returncode == 0
    assert gone(found, 0.0), "down returned before all had ended"
    stopped = stillpoint("status", environment=environment)
    assert (stopped.returncode, stopped.stdout) == (
        0,
        "the stack is stopped; `stillpoint up` starts it, with the data that it had\n",
    )
    assert stillpoint("up", environment=environment).returncode == 0
    assert s3.get_object(Bucket="stillpoint", Key="kept")["Body"].read() == b"1"
    assert _records(kinesis, own.event_stream) == [b"event"]


def _records(kinesis, stream: str) -> list[bytes]:
    found = []
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        found += [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent ended")
def test_servers_end_when_the_program_that_started_them_is_killed(own: Settings, environment: dict[str, str]) -> None:
    program = (
        "import time\nfrom stillpoint.local.stack import Stack\nfrom stillpoint.settings import Settings\n"
        "with Stack(Settings.load()):\n    print('up', flush=True)\n    time.sleep(120)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert starter.stdout.readline() == "up\n"
    found = processes(Stack(own))
    assert len(found) == 3
    starter.kill()
    starter.communicate()
    assert gone(found)


def test_port_of_another_program_is_refused_and_nothing_is_left_running(own: Settings) -> None:
    address = servers(own)[-1]
    with socket.create_server(("127.0.0.1", address.port)):
        stack = Stack(own)
        with pytest.raises(
            StackUnavailable, match=rf"port {address.port} on 127.0.0.1 is in use .*STILLPOINT_SAGEMAKER_ENDPOINT_URL"
        ):
            stack.start()
        assert processes(stack) == []


def test_leftover_pid_file_with_a_strangers_id_signals_nobody(own: Settings) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run = own.home / "run"
    run.mkdir(parents=True)
    (run / "redis.pid").write_text(json.dumps({"pid": stranger.pid, "started": "another boot:1"}))
    assert Stack(own).stop() == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_home_that_cannot_be_written_is_one_sentence(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackUnavailable, match=r"cannot use .*file/home: "):
        Stack(own.model_copy(update={"home": tmp_path / "file" / "home"})).start()


def test_disk_with_no_room_is_refused_before_anything_starts(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stillpoint.local.stack.NEEDED_BYTES", 1 << 60)
    stack = Stack(own)
    with pytest.raises(StackUnavailable, match=r"only \d+ MB are free on the disk of .*set STILLPOINT_HOME"):
        stack.start()
    assert processes(stack) == []


def test_two_servers_at_one_address_are_refused_with_both_names(own: Settings) -> None:
    twice = own.model_copy(update={"sagemaker_endpoint_url": own.aws_endpoint_url})
    with pytest.raises(InvalidSettings, match=r"AWS stand-in and SageMaker stand-in are both at"):
        Stack(twice)
