"""The local worker's loop: receive from the prediction queue, process, delete.

Receives by long polling. A heartbeat extends the visibility timeout of messages that take long. While one batch is
processed, the next is received and the one before deleted. A stop finishes the messages that were received. During an
outage, such as of Redis, no more messages are received, and those at hand stay invisible and are tried again: however
long the outage lasts, it uses up no receives.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from inference.live.watcher import LiveReleaseWatcher
from inference.worker.dead_letters import DeadLetters
from inference.worker.jobs import JobReport, Jobs, QueuedMessage
from stillpoint.clock import Clock, from_micros
from stillpoint.outages import OutageLog, outage

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

WAIT_SECONDS = 1
MESSAGES = 10
VISIBILITY_SECONDS = 15
HEARTBEAT_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0
_AT_ONCE = 10


class Worker:
    """Runs until `stop`. `on_report` is called with the report of each batch."""

    def __init__(
        self,
        client: "SQSClient",
        queue: str,
        jobs: Jobs,
        following: LiveReleaseWatcher,
        *,
        on_report: Callable[[JobReport], None],
        clock: Clock,
    ) -> None:
        self._client = client
        self._queue = queue
        self._jobs = jobs
        self._following = following
        self._on_report = on_report
        self._clock = clock
        self._stop = threading.Event()
        self._url = ""
        self._dead_letters: DeadLetters | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._outage = OutageLog(log, "prediction requests wait")
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="queue")
        self._ahead: Future[list[QueuedMessage]] | None = None
        self._deleting: Future[None] | None = None

    def stop(self) -> None:
        """Ask `run` to return once the received messages are processed."""
        self._stop.set()

    def run(self) -> None:
        """Receive and process messages until `stop` is called. While a server is unavailable it waits."""
        while not self._stop.is_set() or self._ahead is not None:
            try:
                self._step()
            except Exception as error:  # messages become visible again by themselves; the worker must go on
                away = outage(error)
                if away is None:
                    log.exception("the queue cannot be worked off; trying again")
                else:
                    self._outage.met(str(away), now=time.monotonic())
                self._wait_longer()
        self._pool.shutdown()
        try:
            self._finish_delete()
        except (BotoCoreError, ClientError) as error:
            log.warning("the last requests stay on the queue and will be done again: %s", error)

    def _step(self) -> None:
        loaded = self._following.current
        if loaded is None:
            self._stop.wait(0.2)
            return
        if self._dead_letters is None:
            self._url = self._client.get_queue_url(QueueName=self._queue)["QueueUrl"]
            self._dead_letters = DeadLetters(self._client, self._url)
        ahead, self._ahead = self._ahead, None
        messages = self._receive() if ahead is None else ahead.result()
        if not messages:
            self._finish_delete()
            self._reset_pause()
            return
        if len(messages) == MESSAGES and not self._stop.is_set():
            self._ahead = self._pool.submit(self._receive)
        with self._invisible(messages):
            report = self._process(messages)
        for reason in (report.failed | report.left).values():
            log.warning("a prediction request goes back to the queue: %s", reason)
        moved = [
            *self._dead_letters.bury(messages, report.failed),
            *self._dead_letters.renew(messages, report.waiting, now=self._clock()),
        ]
        done = [message for message in messages if message.receipt not in report.not_done]
        before, self._deleting = self._deleting, self._pool.submit(self._delete, [*done, *moved])
        self._on_report(report)
        if before is not None:
            before.result()

    def _process(self, messages: list[QueuedMessage]) -> JobReport:
        """Process messages and return the report. While an outage prevents all of them, pause and try again until it ends
        or `stop` is called; messages received ahead join the batch, so that they stay invisible too."""
        while True:
            loaded = self._following.current
            assert loaded is not None, "a follower never gives up what it has loaded"
            report = self._jobs.run(loaded, messages)
            if not report.put_off:
                self._reset_pause()
                return report
            self._outage.met(next(iter(report.put_off.values())), now=time.monotonic())
            if report.done or report.erased or report.left or self._stop.is_set():
                return report
            ahead, self._ahead = self._ahead, None
            if ahead is not None and (error := ahead.exception()) is None:
                messages += ahead.result()
            elif ahead is not None:
                log.debug("what was to be received ahead is left on the queue: %s", error)
            self._wait_longer()

    def _wait_longer(self) -> None:
        self._stop.wait(self._pause)
        self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause)

    def _reset_pause(self) -> None:
        self._outage.over(now=time.monotonic())
        self._pause = FIRST_PAUSE_SECONDS

    def _receive(self) -> list[QueuedMessage]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=MESSAGES,
            WaitTimeSeconds=WAIT_SECONDS,
            VisibilityTimeout=VISIBILITY_SECONDS,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        return [to_message(one) for one in answer.get("Messages", ())]

    def _finish_delete(self) -> None:
        """Wait until the previous batch is deleted from the queue; raise its error once."""
        deleting, self._deleting = self._deleting, None
        if deleting is not None:
            deleting.result()

    def _delete(self, messages: Sequence[QueuedMessage]) -> None:
        """Delete messages from the queue. One that is not deleted is processed again, which changes nothing."""
        for part in _parts(messages):
            entries: Any = [{"Id": str(index), "ReceiptHandle": one.receipt} for index, one in enumerate(part)]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    @contextmanager
    def _invisible(self, messages: Sequence[QueuedMessage]) -> Iterator[None]:
        """Extend the visibility timeout of messages for as long as the block runs, also of those added meanwhile."""
        finished = threading.Event()
        away = OutageLog(log, "messages could not be kept invisible, another worker may do them too")

        def beat() -> None:
            while not finished.wait(HEARTBEAT_SECONDS):
                try:
                    for part in _parts(list(messages)):
                        entries: Any = [
                            {"Id": str(index), "ReceiptHandle": one.receipt, "VisibilityTimeout": VISIBILITY_SECONDS}
                            for index, one in enumerate(part)
                        ]
                        self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                    away.over(now=time.monotonic())
                except (BotoCoreError, ClientError) as error:
                    away.met(error, now=time.monotonic())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()


def _parts(messages: Sequence[QueuedMessage]) -> Iterator[Sequence[QueuedMessage]]:
    """Yield the messages in batches of the size that one SQS call accepts."""
    for start in range(0, len(messages), _AT_ONCE):
        yield messages[start : start + _AT_ONCE]


def to_message(message: Mapping[str, Any]) -> QueuedMessage:
    """Return a message of a `receive_message` answer."""
    attributes = message.get("Attributes", {})
    return QueuedMessage(
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        sent=from_micros(int(attributes["SentTimestamp"]) * 1_000) if "SentTimestamp" in attributes else None,
    )
