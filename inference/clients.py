"""The clients that all serving processes share, built from the settings."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from inference.live.canaries import CanaryReport
from inference.live.loaded_release import LoadedRelease, load, with_fresh_contents
from inference.live.watcher import LiveReleaseWatcher
from inference.ranking.sagemaker_scorer import by_route, endpoint_config
from stillpoint.clock import system_clock
from stillpoint.errors import StackUnavailable
from stillpoint.lake.tables import Lake
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.presence import WorkerKind
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.shards import refuse_eviction


def client(settings: Settings, service: str, **timeouts: float) -> Any:
    """Return a boto3 client of AWS, or of the stand-in that the settings name. `timeouts` are `connect` and `read`, in seconds."""
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
    """Return a boto3 client that invokes SageMaker endpoints, with a short deadline and no retries of its own."""
    import boto3

    arguments = settings.aws_client_arguments()
    arguments.pop("endpoint_url", None)
    if settings.sagemaker_endpoint_url:
        arguments["endpoint_url"] = settings.sagemaker_endpoint_url
    make: Any = boto3.client
    return make("sagemaker-runtime", config=endpoint_config(), **arguments)


def follow(
    settings: Settings,
    lake: Lake,
    kind: WorkerKind,
    address: str,
    on_canaries: Callable[[CanaryReport], None] = lambda report: None,
) -> LiveReleaseWatcher:
    """Return a `LiveReleaseWatcher` of the release book for this process; the caller starts it."""
    book = ObjectReleaseBook(lake.objects)
    make_scorer = by_route(endpoint_client(settings))

    def load_one(release_id: str, generation: int) -> LoadedRelease:
        return load(book, lake, settings, release_id, generation, now=system_clock(), make_scorer=make_scorer)

    redis = connect(settings.redis_serving.get_secret_value())
    with suppress(StackUnavailable):  # serving starts, and answers popular contents, while Redis is away
        refuse_eviction(redis, "recommendations and push limits")
    return LiveReleaseWatcher(
        book,
        load_one,
        redis=redis,
        kind=kind,
        address=address,
        clock=system_clock,
        refresh=lambda loaded: with_fresh_contents(loaded, lake, now=system_clock()),
        refresh_seconds=settings.contents_refresh,
        on_canaries=on_canaries,
    )
