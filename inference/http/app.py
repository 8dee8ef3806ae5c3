"""The entry point of an HTTP service process: reads the settings and builds the clients."""

import atexit
import logging.config
import os
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette

from inference.clients import client, follow
from inference.http.admission import AdmissionLimits
from inference.http.event_spans import spans
from inference.http.identity import Bearers
from inference.http.logs import configuration
from inference.http.metrics import Metrics
from inference.http.personal_data import personal_data
from inference.http.routes import OperationName
from inference.http.service import Service, ServiceParts
from inference.http.tuning import hand_over_quickly
from inference.live.loaded_release import LoadedRelease, load
from inference.predictions.explain import Explainer
from inference.predictions.predict import Guard
from inference.predictions.served_log import ServedLog
from inference.tokens import TokensFile
from stillpoint.app.load import load_app
from stillpoint.clock import system_clock
from stillpoint.events.parsing import PayloadParser
from stillpoint.events.quarantine import quarantine_rejected
from stillpoint.lake.app_lake import open_lake
from stillpoint.outages import aws_errors
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.presence import WorkerKind
from stillpoint.settings import Settings
from stillpoint.stores.reading.reader import AsyncOnlineReader
from stillpoint.stores.redis.connection import connect_async
from stillpoint.tombstones import erasure_key
from stillpoint.tracing import tracing

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable; `serve` sets it for the processes of one service."""


def create_app() -> Starlette:
    """Return the HTTP application of this process; uvicorn calls it in each of its workers."""
    settings = Settings.load()
    logging.config.dictConfig(configuration(access=settings.http_log))
    hand_over_quickly()
    lake = open_lake(settings)
    kinesis = client(settings, "kinesis")
    book = ObjectReleaseBook(lake.objects)
    traces = tracing(settings, "stillpoint-service")
    if traces is not None:
        atexit.register(traces.close)

    def put_events(payloads: Sequence[tuple[str, bytes]]) -> None:
        from stillpoint.events.stream import put_events as put

        began = system_clock()
        with aws_errors(f"event stream {settings.event_stream}"):
            put(kinesis, settings.event_stream, payloads)
        if traces is not None:
            traces.add(spans(payloads, began, system_clock()))

    def quarantine(rejected: Sequence[tuple[bytes, str | None, str]]) -> None:
        quarantine_rejected(lake, rejected, at=system_clock())

    def load_one(release_id: str, generation: int) -> LoadedRelease:
        return load(book, lake, settings, release_id, generation, now=system_clock())

    folder = os.environ.get(METRICS_FOLDER)
    metrics = Metrics(None if folder is None else Path(folder))
    address = f"{settings.http_host}:{settings.http_port}"
    service = Service(
        ServiceParts(
            following=follow(settings, lake, WorkerKind.SERVICE, address, metrics.canaries),
            redis=connect_async(settings.redis_serving.get_secret_value()),
            async_reader=lambda loaded: AsyncOnlineReader(
                connect_async(settings.connection(loaded.release.colour)), loaded.plan
            ),
            put_events=put_events,
            quarantine=quarantine,
            explain=Explainer(lake, load_one),
            served_log=ServedLog(
                lake, clock=system_clock, erasure_key=erasure_key(settings), spool=settings.home / "served"
            ),
            clock=system_clock,
            guard=Guard(),
            parser=PayloadParser(load_app(settings.app).events),
            experiment=settings.experiment,
            tokens=bearers(settings),
            guarded=(OperationName.METRICS, OperationName.READY) if settings.http_guarded else (),
            personal_data=personal_data(settings, lake, system_clock),
            limits=AdmissionLimits(
                at_once=settings.http_at_once, seconds=settings.http_seconds, per_second=settings.http_per_second
            ),
            metrics=metrics,
        )
    )
    return service.app


def bearers(settings: Settings) -> Bearers | None:
    """Return whoever decides about tokens: the file's, an issuer's, both, or None where the settings name neither.

    Raises:
        InvalidSettings: the file or the issuer's keys cannot be read.
    """
    file = None if settings.http_tokens is None else TokensFile(settings.http_tokens)
    if settings.http_jwt_issuer is None or settings.http_jwt_audience is None or settings.http_jwt_keys is None:
        return file
    from inference.http.json_web_tokens import JsonWebTokens, key_set

    return JsonWebTokens(
        key_set(settings.http_jwt_keys),
        issuer=settings.http_jwt_issuer,
        audience=settings.http_jwt_audience,
        others=file,
    )
