"""Creates the bucket, stream and queues that everything needs.

Creation is idempotent: what exists is left as it is, apart from the queues' redrive rule, which is set again.
"""

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from stillpoint.errors import StackUnavailable
from stillpoint.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

VISIBILITY_SECONDS = 15
"""Of the push queue. The prediction queue's follows from the function's timeout; the queue worker asks for its own."""
FUNCTION_TIMEOUTS = 6
"""How many timeouts of its function a message stays invisible, as AWS advises: a throttled function is tried again before."""
MAX_RECEIVES = 5
RETENTION_SECONDS = 4 * 86_400
DEAD_RETENTION_SECONDS = 14 * 86_400


def lake_bucket(settings: Settings) -> str | None:
    """Return the lake's bucket, or None if the lake is a folder."""
    return settings.lake.removeprefix("s3://").split("/")[0] if settings.lake.startswith("s3://") else None


def provision(settings: Settings) -> dict[str, str]:
    """Create bucket, stream, queues and dead letters where they are missing. Return each name with what it is."""
    import boto3
    from botocore.config import Config

    arguments: dict[str, Any] = settings.aws_client_arguments()
    config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)
    made: dict[str, str] = {}
    bucket = lake_bucket(settings)
    if bucket is not None:
        create_bucket(boto3.client("s3", config=config, **arguments), bucket)
        made[bucket] = "bucket"
    create_stream(boto3.client("kinesis", config=config, **arguments), settings.event_stream, settings.event_shards)
    made[settings.event_stream] = "stream"
    sqs = boto3.client("sqs", config=config, **arguments)
    dead = create_queue(sqs, settings.prediction_dead_letters, {"MessageRetentionPeriod": str(DEAD_RETENTION_SECONDS)})
    made[settings.prediction_dead_letters] = "queue"
    dead_arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    create_queue(
        sqs,
        settings.prediction_queue,
        {
            "VisibilityTimeout": str(FUNCTION_TIMEOUTS * settings.function_seconds),
            "MessageRetentionPeriod": str(RETENTION_SECONDS),
            "RedrivePolicy": json.dumps({"deadLetterTargetArn": dead_arn, "maxReceiveCount": str(MAX_RECEIVES)}),
        },
    )
    made[settings.prediction_queue] = "queue"
    create_queue(sqs, settings.push_queue, {"VisibilityTimeout": str(VISIBILITY_SECONDS)})
    made[settings.push_queue] = "queue"
    create_queue(sqs, settings.served_queue, {"MessageRetentionPeriod": str(DEAD_RETENTION_SECONDS)})
    made[settings.served_queue] = "queue"
    return made


def create_bucket(s3: "S3Client", bucket: str) -> None:
    """Create the bucket unless it is ours already."""
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        region = s3.meta.region_name
        if region == "us-east-1":
            s3.create_bucket(Bucket=bucket)
        else:
            s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]


def create_stream(kinesis: "KinesisClient", stream: str, shards: int, *, seconds: float = 60.0) -> None:
    """Create the stream unless it exists, and wait until it takes records. An existing one keeps its shards."""
    with contextlib.suppress(kinesis.exceptions.ResourceInUseException):
        kinesis.create_stream(StreamName=stream, ShardCount=shards)
    deadline = time.monotonic() + seconds
    while True:
        status = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"]
        if status in ("ACTIVE", "UPDATING"):
            return
        if time.monotonic() > deadline:
            raise StackUnavailable(f"stream {stream} is {status} after {seconds:.0f} s; expected ACTIVE")
        time.sleep(0.05)


def create_queue(sqs: "SQSClient", name: str, attributes: dict[str, str]) -> str:
    """Create the queue unless it exists, give it these attributes, and return its URL."""
    try:
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    except sqs.exceptions.QueueDoesNotExist:
        return sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
    sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)  # type: ignore[arg-type]
    return url
