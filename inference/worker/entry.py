"""The entry point of a queue worker: reads the settings and builds the clients; the HTTP service is not imported."""

import os
from collections.abc import Callable

from inference.clients import client, follow
from inference.predictions.served_drain import ServedDrain
from inference.predictions.served_log import ServedLog
from inference.predictions.stored_recommendations import Recommendations
from inference.worker.jobs import JobReport, Jobs
from inference.worker.loop import Worker
from inference.worker.push_consent import PushConsent
from inference.worker.spans import spans
from stillpoint.clock import system_clock
from stillpoint.lake.app_lake import open_lake
from stillpoint.messages import Push
from stillpoint.releases.presence import WorkerKind
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.tombstones import ErasureLookup, erasure_key
from stillpoint.tracing import tracing


def create_worker(
    settings: Settings, watch: Callable[[JobReport], None] = lambda report: None
) -> tuple[Worker, Callable[[], None]]:
    """Return a queue worker that follows the live release, and the function that closes its clients after its run.

    `watch` is called with the report of each batch.
    """
    lake = open_lake(settings)
    sqs = client(settings, "sqs")
    following = follow(settings, lake, WorkerKind.WORKER, os.uname().nodename)
    served = ServedLog(lake, clock=system_clock, erasure_key=erasure_key(settings), spool=settings.home / "served")
    drain = ServedDrain(sqs, settings.served_queue, lake, clock=system_clock, erasure_key=erasure_key(settings))
    serving = connect(settings.redis_serving.get_secret_value())
    traces = tracing(settings, "stillpoint-worker")
    push_url: list[str] = []

    def send_push(push: Push) -> None:
        if not push_url:
            push_url.append(sqs.get_queue_url(QueueName=settings.push_queue)["QueueUrl"])
        sqs.send_message(QueueUrl=push_url[0], MessageBody=push.model_dump_json())

    jobs = Jobs(
        Recommendations(serving),
        send_push=send_push,
        may_receive=PushConsent(lake, system_clock),
        clock=system_clock,
        experiment=settings.experiment,
        still_live=lambda loaded: following.current is not None and following.current.generation == loaded.generation,
        erased=ErasureLookup(serving, lake.objects, erasure_key(settings), system_clock).of,
    )

    def report(done: JobReport) -> None:
        watch(done)
        for prediction in done.predictions:
            served.add(prediction)
        if traces is not None:
            traces.add(
                span for outcome in done.outcomes if traces.wants(outcome.request.event_id) for span in spans(outcome)
            )

    worker = Worker(sqs, settings.prediction_queue, jobs, following, on_report=report, clock=system_clock)
    following.start()
    drain.start()

    def close() -> None:
        following.close()
        drain.close()
        served.close()
        if traces is not None:
            traces.close()

    return worker, close
