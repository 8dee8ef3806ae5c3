"""How are the serving processes put together? The only place of this room that reads the settings and builds clients."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette

from inference.endpoint import by_route, endpoint_config
from inference.following import Following
from inference.jobs import JobReport, Jobs
from inference.loaded_release import LoadedRelease, load
from inference.opt_in import OptIns
from inference.predict import Guard
from inference.recommendations import Recommendations
from inference.served_log import ServedLog
from inference.service import Parts, Service
from inference.tokens import Tokens
from inference.worker import Worker
from stillpoint.clock import system_clock, to_micros
from stillpoint.lake import Lake
from stillpoint.messages import Push
from stillpoint.objects import open_objects
from stillpoint.presence import WorkerKind
from stillpoint.quarantine import quarantine_rejected
from stillpoint.releases import ObjectReleaseBook
from stillpoint.settings import Settings
from stillpoint.stores.connection import connect, connect_async
from stillpoint.stores.reader import AsyncOnlineReader
from stillpoint.tombstones import Erased, erasure_key


def client(settings: Settings, service: str, **timeouts: float) -> Any:
    """Return a boto3 client of the stand-in or of AWS."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=timeouts.get("connect", 3),
        read_timeout=timeouts.get("read", 30),
        max_pool_connections=32,
    )
    make: Any = boto3.client
    return make(service, config=config, **settings.aws_client_arguments())


def endpoint_client(settings: Settings) -> Any:
    """Return a boto3 client that invokes model endpoints, at once or not at all."""
    import boto3

    arguments = settings.aws_client_arguments()
    arguments.pop("endpoint_url", None)
    if settings.sagemaker_endpoint_url:
        arguments["endpoint_url"] = settings.sagemaker_endpoint_url
    make: Any = boto3.client
    return make("sagemaker-runtime", config=endpoint_config(), **arguments)


def open_lake(settings: Settings) -> Lake:
    """Return the lake of the settings."""
    return Lake(open_objects(settings.lake, settings.aws_client_arguments()))


def follow(settings: Settings, lake: Lake, kind: WorkerKind, address: str) -> Following:
    """Return a follower of the release book, not started."""
    book = ObjectReleaseBook(lake.objects)
    make_scorer = by_route(endpoint_client(settings))

    def load_one(release_id: str, generation: int) -> LoadedRelease:
        return load(book, lake, settings, release_id, generation, now=system_clock(), make_scorer=make_scorer)

    redis = connect(settings.redis_serving.get_secret_value())
    return Following(book, load_one, redis=redis, kind=kind, address=address, clock=system_clock)


def create_app() -> Starlette:
    """Return the HTTP application of this process; uvicorn calls it in each of its workers."""
    settings = Settings.load()
    lake = open_lake(settings)
    kinesis = client(settings, "kinesis")

    def put_events(payloads: Sequence[tuple[str, bytes]]) -> None:
        from stillpoint.event_stream import put_events as put

        put(kinesis, settings.event_stream, payloads)

    def quarantine(rejected: Sequence[tuple[bytes, str | None, str]]) -> None:
        quarantine_rejected(lake, rejected, at=system_clock())

    service = Service(
        Parts(
            following=follow(settings, lake, WorkerKind.SERVICE, f"{settings.http_host}:{settings.http_port}"),
            redis=connect_async(settings.redis_serving.get_secret_value()),
            async_reader=lambda loaded: AsyncOnlineReader(
                connect_async(settings.connection(loaded.release.colour)), loaded.plan
            ),
            put_events=put_events,
            quarantine=quarantine,
            served_log=ServedLog(lake, clock=system_clock, seed=settings.seed, erasure_key=erasure_key(settings)),
            clock=system_clock,
            guard=Guard(),
            tokens=None if settings.http_tokens is None else Tokens.load(settings.http_tokens),
        )
    )
    return service.app


def create_worker(settings: Settings) -> tuple[Worker, Callable[[], None]]:
    """Return a queue worker that follows the live release, and what to call after its run."""
    lake = open_lake(settings)
    sqs = client(settings, "sqs")
    following = follow(settings, lake, WorkerKind.WORKER, os.uname().nodename)
    served = ServedLog(lake, clock=system_clock, seed=settings.seed, erasure_key=erasure_key(settings))
    serving = connect(settings.redis_serving.get_secret_value())
    push_url: list[str] = []

    def send_push(push: Push) -> None:
        if not push_url:
            push_url.append(sqs.get_queue_url(QueueName=settings.push_queue)["QueueUrl"])
        sqs.send_message(QueueUrl=push_url[0], MessageBody=push.model_dump_json())

    jobs = Jobs(
        Recommendations(serving),
        send_push=send_push,
        may_receive=OptIns(lake, system_clock),
        clock=system_clock,
        is_erased=Erased(serving, lake.objects, erasure_key(settings), system_clock),
    )

    def report(done: JobReport) -> None:
        for made in done.predictions:
            served.add(made)

    worker = Worker(sqs, settings.prediction_queue, jobs, following, on_report=report)
    following.start()

    def close() -> None:
        following.close()
        served.close()

    return worker, close


def now_us() -> int:
    """Return the present in microseconds."""
    return to_micros(system_clock())
