"""The stand-ins that the tests rely on behave as the product needs."""

import json
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from stillpoint.lake.tables import Lake
from stillpoint.local.aws import AwsServer
from stillpoint.local.provision import provision
from stillpoint.settings import Settings


def test_stand_in_enforces_create_only_objects(s3_lake: Lake) -> None:
    from stillpoint.errors import AlreadyExists

    s3_lake.objects.create("a", b"1")
    with pytest.raises(AlreadyExists):
        s3_lake.objects.create("a", b"2")
    assert s3_lake.objects.get("a") == b"1"


def test_provision_makes_bucket_stream_and_queues_and_again_changes_nothing(settings: Settings, aws: AwsServer) -> None:
    first = provision(settings)
    assert provision(settings) == first
    shards = aws.client("kinesis").list_shards(StreamName=settings.event_stream)["Shards"]
    assert len(shards) == settings.event_shards
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == str(6 * settings.function_seconds) == "180"
    told = (Path(__file__).parents[2] / "docs" / "dead-letters.md").read_text()
    assert (
        f"(`STILLPOINT_FUNCTION_SECONDS`, {settings.function_seconds} s), {attributes['VisibilityTimeout']} s" in told
    )
    served = sqs.get_queue_url(QueueName=settings.served_queue)["QueueUrl"]
    kept = sqs.get_queue_attributes(QueueUrl=served, AttributeNames=["MessageRetentionPeriod"])["Attributes"]
    assert kept == {"MessageRetentionPeriod": str(14 * 86_400)}
    redrive = json.loads(attributes["RedrivePolicy"])
    assert int(redrive["maxReceiveCount"]) == 5
    assert redrive["deadLetterTargetArn"].endswith(f":{settings.prediction_dead_letters}")


def test_a_bucket_is_not_there_before_provision(settings: Settings, aws: AwsServer, unique: str) -> None:
    with pytest.raises(ClientError, match="404"):
        aws.client("s3").head_bucket(Bucket=f"{unique}-other")
