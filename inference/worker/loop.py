"""The local worker's loop: receives from the prediction queue, works, deletes.

Long polling; messages that take long stay invisible by a heartbeat; while more wait, the next batch is received, and the
one before taken off the queue, during the work on this one; a stop lets what was received be finished. While nothing can be
done at all, as when Redis is away, it waits longer and longer: an outage must not use up the receives of requests.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from inference.live.watcher import Following
from inference.worker.dead_letters import DeadLetters
from inference.worker.jobs import JobReport, Jobs, QueuedMessage
from stillpoint.clock import from_micros

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

WAIT_SECONDS = 1
MESSAGES = 10
VISIBILITY_SECONDS = 15
HEARTBEAT_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 10.0


class Worker:
    """Runs until `stop`. `on_report` hears of each batch."""

    def __init__(
        self,
        client: "SQSClient",
        queue: str,
        jobs: Jobs,
        following: Following,
        *,
        on_report: Callable[[JobReport], None],
    ) -> None:
        self._client = client
        self._queue = queue
        self._jobs = jobs
        self._following = following
        self._on_report = on_report
        self._stop = threading.Event()
        self._url = ""
        self._dead_letters: DeadLetters | None = None
        self._barren = 0
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="queue")
        self._ahead: Future[list[QueuedMessage]] | None = None
        self._deleting: Future[None] | None = None

    def stop(self) -> None:
        """Ask for an end after what was received."""
        self._stop.set()

    def run(self) -> None:
        """Receive and work off until told to stop. Trouble with a server is waited out."""
        while not self._stop.is_set() or self._ahead is not None:
            try:
                self._once()
            except Exception as error:  # noqa: BLE001  messages come back by themselves; the worker must live
                log.warning("the queue cannot be read, trying again: %s", error)
                self._stop.wait(1.0)
        self._pool.shutdown()
        try:
            self._deleted()
        except (BotoCoreError, ClientError) as error:
            log.warning("the last requests stay on the queue and will be done again: %s", error)

    def _once(self) -> None:
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
            self._deleted()
            return
        if len(messages) == MESSAGES and not self._barren and not self._stop.is_set():
            self._ahead = self._pool.submit(self._receive)
        with self._invisible(messages):
            report = self._jobs.run(loaded, messages)
        for reason in report.failed.values():
            log.warning("a prediction request goes back to the queue: %s", reason)
        buried = self._dead_letters.bury(messages, report.failed)
        done = [message for message in messages if message.receipt not in report.failed]
        before, self._deleting = self._deleting, self._pool.submit(self._delete, [*done, *buried])
        self._on_report(report)
        self._barren = self._barren + 1 if report.unavailable and not done else 0
        if before is not None:
            before.result()
        if self._barren:
            self._stop.wait(min(LONGEST_PAUSE_SECONDS, 0.25 * 2**self._barren))

    def _receive(self) -> list[QueuedMessage]:
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=MESSAGES,
            WaitTimeSeconds=WAIT_SECONDS,
            AttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        )
        return [delivered(one) for one in answer.get("Messages", ())]

    def _deleted(self) -> None:
        """Wait until the batch before is off the queue; raise what went wrong, once."""
        deleting, self._deleting = self._deleting, None
        if deleting is not None:
            deleting.result()

    def _delete(self, messages: Sequence[QueuedMessage]) -> None:
        """Take messages off the queue. One that stays is done again, which changes nothing."""
        if messages:
            entries: Any = [{"Id": str(index), "ReceiptHandle": one.receipt} for index, one in enumerate(messages)]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    @contextmanager
    def _invisible(self, messages: Sequence[QueuedMessage]) -> Iterator[None]:
        """Keep messages invisible to others while they are worked on."""
        finished = threading.Event()

        def beat() -> None:
            entries: Any = [
                {"Id": str(index), "ReceiptHandle": one.receipt, "VisibilityTimeout": VISIBILITY_SECONDS}
                for index, one in enumerate(messages)
            ]
            while not finished.wait(HEARTBEAT_SECONDS):
                try:
                    self._client.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
                except (BotoCoreError, ClientError) as error:
                    log.warning("messages could not be kept invisible; another worker may do them too: %s", error)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()


def delivered(message: Mapping[str, Any]) -> QueuedMessage:
    """Return a message as `receive_message` gives it."""
    attributes = message.get("Attributes", {})
    return QueuedMessage(
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        receives=int(attributes.get("ApproximateReceiveCount", 1)),
        sent=from_micros(int(attributes["SentTimestamp"]) * 1_000) if "SentTimestamp" in attributes else None,
    )
