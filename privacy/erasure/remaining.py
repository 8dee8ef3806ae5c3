"""Tells until when stores that cannot be edited may still hold data of a user: streams, queues, Redis files, disks."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from privacy.erasure.receipt import RemainingCopies
from privacy.erasure.versions import VersionErasure, remaining_versions
from stillpoint.releases.colour import Colour
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect


def remaining(settings: Settings, versions: VersionErasure, *, now: datetime) -> Iterator[RemainingCopies]:
    """Yield each such store with the end of its retention, as the store itself reports it."""
    yield _kinesis(settings, now)
    for queue in (
        settings.prediction_queue,
        settings.prediction_dead_letters,
        settings.push_queue,
        settings.served_queue,
    ):
        yield _queue(settings, queue, now)
    yield from _redis(settings)
    if settings.lake.startswith("s3://"):
        yield from _versions(settings, versions, now)
    yield from _machines(settings, now)


def _machines(settings: Settings, now: datetime) -> Iterator[RemainingCopies]:
    """Yield what may lie on the disks of other machines, which cannot be read from here."""
    why = "rows that wait on a worker's disk while the lake is away; those of the user are dropped when they are written. Files "
    yield RemainingCopies(
        place="spools of served logs", why=f"{why}there that could not be read (*.unreadable) are kept"
    )
    yield RemainingCopies(place="Spark checkpoints", why="hold positions in the event stream, and no event", until=now)
    why = "shuffled events of the newest micro-batches, until Spark clears them or the stream is started again"
    yield RemainingCopies(place="Spark's working files (spark.local.dir)", why=why)
    why = "models and three rows of features as an example of input, without ids: delete runs of the models listed"
    yield RemainingCopies(place=f"MLflow at {settings.mlflow_tracking_uri}", why=why)
    why = "exports, pages of `stillpoint validate`, reports of rehearsals and outputs of notebooks: delete them where they are"
    yield RemainingCopies(place="files that somebody saved", why=why)
    yield RemainingCopies(place="backups and logs of machines", why="made outside Stillpoint; see their own retention")


def _client(settings: Settings, service: str) -> Any:
    config = Config(retries={"max_attempts": 2}, connect_timeout=3, read_timeout=5)
    return boto3.client(service, config=config, **settings.aws_client_arguments())  # type: ignore[call-overload]


def _kinesis(settings: Settings, now: datetime) -> RemainingCopies:
    place, why = f"Kinesis stream {settings.event_stream}", "keeps records for its retention; replays are dropped"
    try:
        found = _client(settings, "kinesis").describe_stream_summary(StreamName=settings.event_stream)
        hours = found["StreamDescriptionSummary"]["RetentionPeriodHours"]
        return RemainingCopies(place=place, why=why, until=now + timedelta(hours=hours))
    except (ClientError, BotoCoreError) as error:
        return RemainingCopies(place=place, why=f"{why}; its retention could not be asked ({type(error).__name__})")


def _queue(settings: Settings, name: str, now: datetime) -> RemainingCopies:
    place, why = f"SQS queue {name}", "messages cannot be picked out; workers drop them"
    try:
        client = _client(settings, "sqs")
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        asked = client.get_queue_attributes(QueueUrl=url, AttributeNames=["MessageRetentionPeriod"])
        seconds = int(asked.get("Attributes", {}).get("MessageRetentionPeriod", 345_600))
        return RemainingCopies(place=place, why=why, until=now + timedelta(seconds=seconds))
    except (ClientError, BotoCoreError) as error:
        return RemainingCopies(place=place, why=f"{why}; its retention could not be asked ({type(error).__name__})")


def _redis(settings: Settings) -> Iterator[RemainingCopies]:
    """Start the rewriting of append-only files where the Redis server allows it, and yield what may remain."""
    addresses = dict.fromkeys(
        [
            *(settings.connection(colour) for colour in Colour),
            settings.redis_serving.get_secret_value(),
            settings.redis_state.get_secret_value(),
        ]
    )
    for number, address in enumerate(addresses):
        place = f"files of Redis server {number + 1}"
        try:
            client = connect(address)
            kept = client.config_get("appendonly").get("appendonly") == "yes"
            if kept:
                client.bgrewriteaof()
        except Exception as error:  # noqa: BLE001  managed servers refuse CONFIG in words of their own
            why = f"the append-only file or snapshot is the server's own ({type(error).__name__} when asked)"
            yield RemainingCopies(place=place, why=why)
            continue
        if kept:
            yield RemainingCopies(place=place, why="the append-only file is being rewritten without the keys now")
        else:
            yield RemainingCopies(place=place, why="a dump holds the keys until the server saves its next one")


def _versions(settings: Settings, versions: VersionErasure, now: datetime) -> Iterator[RemainingCopies]:
    bucket, _, prefix = settings.lake.removeprefix("s3://").partition("/")

    def lifecycle() -> Any:
        return _client(settings, "s3").get_bucket_lifecycle_configuration(Bucket=bucket)

    yield from remaining_versions(versions, lifecycle, bucket=bucket, prefix=f"{prefix.strip('/')}/", now=now)
