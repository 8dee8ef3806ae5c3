"""The built zip runs as a Lambda behind SQS, stores what it was asked for, and gives back only what failed."""

import io
import os
import subprocess
import sys
import sysconfig
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from inference.lambda_package import HANDLER, package
from inference.predictions.served_drain import ServedDrain
from inference.predictions.stored_recommendations import Recommendations
from stillpoint.clock import system_clock
from stillpoint.events.types import EventType
from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Kind, PredictionRequest, request_id
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.tombstones import erasure_key
from tests.support.hand_made import hand_made, opted_in
from tests.support.wellness import APP

FORBIDDEN = ("feast", "pyspark", "great_expectations", "mlflow", "sagemaker")


def environment(settings: Settings) -> dict[str, str]:
    names = (
        "lake",
        "aws_endpoint_url",
        "event_stream",
        "prediction_queue",
        "prediction_dead_letters",
        "push_queue",
        "served_queue",
        "sagemaker_endpoint_url",
    )
    shown = {f"STILLPOINT_{name.upper()}": str(getattr(settings, name)) for name in names}
    for name in ("redis_green", "redis_blue", "redis_serving"):
        shown[f"STILLPOINT_{name.upper()}"] = getattr(settings, name).get_secret_value()
    return shown | {"STILLPOINT_HOME": str(settings.home), "PYTHONPATH": sysconfig.get_path("purelib")}


def requested(user: str, kind: Kind) -> PredictionRequest:
    now = datetime.now(UTC)
    return PredictionRequest(
        request_id=request_id(f"{user}-event", kind),
        user_id=user,
        kind=kind,
        event_id=f"{user}-event",
        event_type=EventType.CONTENT_COMPLETE,
        event_timestamp=now,
        arrived_at=now,
        enqueued_at=now,
    )


def test_the_zip_runs_as_a_function_and_drains_the_queue(
    settings: Settings, s3_lake: Lake, aws: AwsServer, redis_server: RedisServer, unique: str
) -> None:
    provision(settings)
    opted_in(s3_lake, {"u1": True})
    hand_made(s3_lake, settings, project=f"stillpoint_{unique}").point()
    functions = aws.client("lambda")
    functions.create_function(  # type: ignore[attr-defined]
        FunctionName=unique,
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/lambda",
        Handler=HANDLER,
        Code={"ZipFile": package(APP)},
        Timeout=settings.function_seconds,
        Environment={"Variables": environment(settings)},
    )
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]  # type: ignore[attr-defined]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]  # type: ignore[attr-defined]
    mapping = functions.create_event_source_mapping(  # type: ignore[attr-defined]
        EventSourceArn=arn, FunctionName=unique, BatchSize=10, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    for body in (
        requested("u1", Kind.TODAY).to_bytes().decode(),
        requested("u1", Kind.NEXT).to_bytes().decode(),
        "not a request",
    ):
        sqs.send_message(QueueUrl=url, MessageBody=body)  # type: ignore[attr-defined]
    recommendations = Recommendations(connect(redis_server.connection_string))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        held = recommendations.get("u1", [Kind.TODAY, Kind.NEXT], "r0001")
        if all(held):
            break
        time.sleep(0.3)
    assert all(held), "nothing was stored within a minute"
    pushes = sqs.get_queue_url(QueueName=settings.push_queue)["QueueUrl"]  # type: ignore[attr-defined]
    (push,) = sqs.receive_message(QueueUrl=pushes, WaitTimeSeconds=5)["Messages"]  # type: ignore[attr-defined]
    assert held[1] is not None
    assert held[1].recommendation_id in push["Body"]
    drain = ServedDrain(
        sqs,  # type: ignore[arg-type]
        settings.served_queue,
        s3_lake,
        clock=system_clock,
        erasure_key=erasure_key(settings),
    )
    kinds: set[str] = set()
    while kinds != {"next", "today"} and time.monotonic() < deadline:  # the log is written after the recommendation
        drain.step(gather_seconds=0)
        kinds = set(s3_lake.read("served")["kind"].to_pylist())
    assert kinds == {"next", "today"}
    functions.delete_event_source_mapping(UUID=mapping["UUID"])  # type: ignore[attr-defined]


def test_the_zip_is_the_same_whenever_it_is_built_and_loads_the_app_without_the_heavy_rooms(tmp_path: Path) -> None:
    assert package(APP) == package(APP)
    zipfile.ZipFile(io.BytesIO(package(APP))).extractall(tmp_path)
    code = (
        "import sys, inference.lambda_handler\n"
        "from stillpoint.app.load import load_app\n"
        f"print(load_app({APP.folder.name!r}).folder, [m for m in {FORBIDDEN!r} if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ), cwd=tmp_path
    )
    assert shown.stdout.strip() == f"{tmp_path / APP.folder.name} []"
