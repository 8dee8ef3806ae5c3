"""The prediction worker as an AWS Lambda behind SQS.

`inference.lambda_handler.handle` is the function; messages that could not be done are named in a partial batch response and
come back alone; those that an outage put off to their last receive are sent again instead. A Lambda freezes between invocations: no
thread follows the releases, so each invocation reads the live generation first, from its copy in Redis, and what was ranked under a
generation that has ended meanwhile is not stored but done again. What was served travels through a queue to a worker. Warm, an
invocation asks the object store nothing.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, cached_property
from typing import Any

from inference.live.canaries import CANARY_SECONDS, CanaryWatch
from inference.live.loaded_release import LoadedRelease, load, with_fresh_contents
from inference.live.renewal import Renewal
from inference.predictions.served_log import commit_served
from inference.predictions.served_queue import ServedSender
from inference.predictions.stored_recommendations import Recommendations
from inference.ranking.sagemaker_scorer import by_route, endpoint_config
from inference.worker.dead_letters import DeadLetters
from inference.worker.jobs import JobReport, Jobs, QueuedMessage
from inference.worker.push_consent import PushConsent
from stillpoint.catalogue import change_token
from stillpoint.clock import Clock, system_clock
from stillpoint.errors import ReleaseRefused, StillpointError
from stillpoint.lake.app_lake import open_lake
from stillpoint.messages import Push
from stillpoint.outages import outage
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.pointer_copy import LiveGeneration, PointerCopy
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from stillpoint.tombstones import ErasureLookup, erasure_key

log = logging.getLogger(__name__)

AGAIN_SECONDS = 15
"""After how long a request that could not be done comes back."""


class WarmFunction:
    """What stays warm between invocations: clients, and the release that was loaded last."""

    def __init__(
        self,
        live: Callable[[], LiveGeneration | None],
        load_release: Callable[[str, int, datetime], LoadedRelease],
        jobs: Callable[[Callable[[LoadedRelease], bool]], Jobs],
        *,
        clock: Clock,
        forward: Callable[[JobReport], None],
        bury: Callable[
            [Sequence[QueuedMessage], Mapping[str, str]], Sequence[QueuedMessage]
        ] = lambda messages, reasons: (),
        renew: Callable[
            [Sequence[QueuedMessage], Mapping[str, str]], Sequence[QueuedMessage]
        ] = lambda messages, put_off: (),
        refresh: Callable[[LoadedRelease, datetime], LoadedRelease] | None = None,
        renewal: Renewal | None = None,
        hasten: Callable[[Sequence[QueuedMessage]], None] = lambda messages: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`live` says which generation is live at this moment. `jobs` builds the work from the check whether a release is
        still live, at the first batch; `forward` keeps what was served, or raises; `bury` moves messages that failed for the last time to the dead letters and returns them, `renew` sends
        messages that were put off to their last receive again and returns them. `refresh` reads the contents of a loaded
        release anew when `renewal` says that it is time. `hasten` lets messages come back soon."""
        self._ask_live = live
        self._load = load_release
        self._make_jobs = jobs
        self._clock = clock
        self._forward = forward
        self._bury = bury
        self._renew = renew
        self._refresh = refresh
        self._renewal = renewal
        self._hasten = hasten
        self._monotonic = monotonic
        self._loaded: LoadedRelease | None = None
        self._canaries = CanaryWatch(lambda: self._loaded, clock)
        self._canaries_due = 0.0

    def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Work one batch off and name the messages that must come back."""
        messages = [_delivered(record) for record in event["Records"]]
        report = self._kept(messages, self._report(messages))
        for message, reason in report.not_done.items():
            log.warning("message %s goes back to the queue: %s", message, reason)
        moved = [*self._bury(messages, report.failed), *self._renew(messages, report.waiting)]
        gone = {message.receipt for message in moved}
        back = [message for message in messages if message.receipt in report.not_done.keys() - gone]
        self._hasten(back)
        self._check_canaries()
        return {"batchItemFailures": [{"itemIdentifier": message.receipt} for message in back]}

    def _check_canaries(self) -> None:
        """Check the canaries if it is time. No thread can: a Lambda freezes between invocations."""
        if self._monotonic() >= self._canaries_due:
            self._canaries.step()
            self._canaries_due = self._monotonic() + CANARY_SECONDS

    def _kept(self, messages: Sequence[QueuedMessage], report: JobReport) -> JobReport:
        """Keep what was served. If that fails, all comes back and is done again, which changes nothing else."""
        try:
            self._forward(report)
        except Exception as error:
            away = outage(error)
            if away is None:
                log.exception("what was served cannot be kept")
            why = f"what was served cannot be kept: {away or error}"
            rest = {one.receipt: why for one in messages if one.receipt not in report.not_done}
            return replace(report, put_off=report.put_off | rest)
        return report

    def _report(self, messages: Sequence[QueuedMessage]) -> JobReport:
        """Work a batch off. Without a release to work under, all of it is put off: that is no message's fault."""
        try:
            loaded, jobs = self._live(), self._jobs
        except Exception as error:
            if outage(error) is None and not isinstance(error, StillpointError):
                log.exception("the live release cannot be loaded")
            why = f"the live release cannot be loaded: {error}"
            return JobReport(put_off={message.receipt: why for message in messages})
        return jobs.run(loaded, messages)

    @cached_property
    def _jobs(self) -> Jobs:
        return self._make_jobs(self.still_live)

    def still_live(self, loaded: LoadedRelease) -> bool:
        """Say whether a generation is still the live one."""
        live = self._ask_live()
        return live is not None and live.generation == loaded.generation

    def _live(self) -> LoadedRelease:
        live = self._ask_live()
        if live is None:
            raise ReleaseRefused("no release is live yet; the messages come back")
        if self._loaded is None or self._loaded.generation != live.generation:
            self._loaded = self._load(live.release, live.generation, self._clock())
            if self._renewal is not None:
                self._renewal.loaded()
        return self._renewed(self._loaded)

    def _renewed(self, loaded: LoadedRelease) -> LoadedRelease:
        """Return the release with the contents read anew if it is time. If that fails, the old ones go on answering."""
        if self._refresh is None or self._renewal is None or not self._renewal.due():
            return loaded
        try:
            self._loaded = loaded = self._refresh(loaded, self._clock())
        except StillpointError as error:
            self._renewal.failed()
            log.warning("the contents cannot be read anew: %s", error)
        else:
            self._renewal.done()
        return loaded


def build(settings: Settings, clock: Clock) -> WarmFunction:
    """Build the function from settings: the composition root of the Lambda."""
    import boto3

    aws = settings.aws_client_arguments()
    lake = open_lake(settings)
    book = ObjectReleaseBook(lake.objects)
    sqs = boto3.client("sqs", **aws)  # type: ignore[call-overload]
    pushes = sqs.get_queue_url(QueueName=settings.push_queue)["QueueUrl"]
    endpoints = dict(aws)
    if settings.sagemaker_endpoint_url:
        endpoints["endpoint_url"] = settings.sagemaker_endpoint_url
    runtime = boto3.client("sagemaker-runtime", config=endpoint_config(), **endpoints)  # type: ignore[call-overload]

    def load_release(release_id: str, generation: int, now: datetime) -> LoadedRelease:
        return load(book, lake, settings, release_id, generation, now=now, make_scorer=by_route(runtime))

    def send_push(push: Push) -> None:
        sqs.send_message(QueueUrl=pushes, MessageBody=push.to_bytes().decode())

    served = sqs.get_queue_url(QueueName=settings.served_queue)["QueueUrl"]
    sender = ServedSender(
        lambda text: sqs.send_message(QueueUrl=served, MessageBody=text),
        write=lambda table: commit_served(
            lake, f"served-{uuid.uuid4().hex[:12]}", 0, table, at=clock(), erasure_key=erasure_key(settings)
        ),
        refused=lambda error: log.error("a prediction cannot be logged: %s", error),
    )
    predictions = sqs.get_queue_url(QueueName=settings.prediction_queue)["QueueUrl"]

    def hasten(messages: Sequence[QueuedMessage]) -> None:
        """Let messages come back after 15 s: the queue's own timeout is for functions that were ended."""
        entries: Any = [
            {"Id": str(number), "ReceiptHandle": one.handle, "VisibilityTimeout": AGAIN_SECONDS}
            for number, one in enumerate(messages)
            if one.handle is not None
        ]
        try:
            for start in range(0, len(entries), 10):
                sqs.change_message_visibility_batch(QueueUrl=predictions, Entries=entries[start : start + 10])
        except Exception as error:  # noqa: BLE001  they come back later by themselves
            log.warning("messages come back only after the queue's visibility timeout: %s", error)

    opted_in = PushConsent(lake, clock)
    dead_letters = DeadLetters(sqs, predictions)

    @cache
    def serving() -> Any:
        return connect(settings.redis_serving.get_secret_value())  # a cluster is asked for its nodes at once

    @cache
    def copy() -> PointerCopy:
        return PointerCopy(serving(), book, lake.root)

    def jobs(still_live: Callable[[LoadedRelease], bool]) -> Jobs:
        fenced = copy().fences()
        return Jobs(
            Recommendations(serving(), fence=copy().key if fenced else None),
            send_push=send_push,
            may_receive=opted_in,
            clock=clock,
            still_live=(lambda loaded: True) if fenced else still_live,
            erased=ErasureLookup(serving(), lake.objects, erasure_key(settings), clock).of,
            experiment=settings.experiment,
        )

    return WarmFunction(
        lambda: copy().live(),
        load_release,
        jobs,
        clock=clock,
        forward=lambda report: sender.send(report.predictions),
        bury=dead_letters.bury,
        renew=lambda messages, put_off: dead_letters.renew(messages, put_off, now=clock()),
        refresh=lambda loaded, now: with_fresh_contents(loaded, lake, now=now),
        renewal=Renewal(lambda: change_token(serving()), seconds=settings.contents_refresh, monotonic=time.monotonic),
        hasten=hasten,
    )


def _delivered(record: Mapping[str, Any]) -> QueuedMessage:
    """Return a record of an SQS event; its message id stands for the receipt, as the batch response wants it."""
    return QueuedMessage(
        receipt=record["messageId"],
        body=record["body"],
        receives=int(record.get("attributes", {}).get("ApproximateReceiveCount", 1)),
        handle=record.get("receiptHandle"),
    )


_warm: list[WarmFunction] = []


def handle(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer an SQS event. The first invocation of an environment builds the clients; Lambda keeps them warm."""
    if not _warm:
        _warm.append(build(Settings.load(), system_clock))
    return _warm[0](event)
