"""How does a local worker drain the prediction queue?

Long polling; messages that take long stay invisible by a heartbeat; a stop lets the batch under way finish.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from inference.following import Following
from inference.jobs import Delivered, JobReport, Jobs

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

WAIT_SECONDS = 1
MESSAGES = 10
VISIBILITY_SECONDS = 15
HEARTBEAT_SECONDS = 5.0


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

    def stop(self) -> None:
        """Ask for an end after the batch under way."""
        self._stop.set()

    def run(self) -> None:
        """Receive and work off until told to stop. Trouble with a server is waited out."""
        url: str | None = None
        while not self._stop.is_set():
            try:
                url = url or self._client.get_queue_url(QueueName=self._queue)["QueueUrl"]
                self._once(url)
            except Exception as error:  # noqa: BLE001  messages come back by themselves; the worker must live
                log.warning("the queue cannot be read, trying again: %s", error)
                self._stop.wait(1.0)

    def _once(self, url: str) -> None:
        loaded = self._following.current
        if loaded is None:
            self._stop.wait(0.2)
            return
        answer = self._client.receive_message(QueueUrl=url, MaxNumberOfMessages=MESSAGES, WaitTimeSeconds=WAIT_SECONDS)
        messages = [Delivered(one["ReceiptHandle"], one["Body"]) for one in answer.get("Messages", ())]
        if not messages:
            return
        with self._invisible(url, messages):
            report = self._jobs.run(loaded, messages)
        done = [message for message in messages if message.receipt not in report.failed]
        if done:
            self._client.delete_message_batch(
                QueueUrl=url,
                Entries=[{"Id": str(index), "ReceiptHandle": one.receipt} for index, one in enumerate(done)],
            )
        for reason in report.failed.values():
            log.warning("a prediction request goes back to the queue: %s", reason)
        self._on_report(report)

    @contextmanager
    def _invisible(self, url: str, messages: Sequence[Delivered]) -> Iterator[None]:
        """Keep messages invisible to others while they are worked on."""
        finished = threading.Event()

        def beat() -> None:
            while not finished.wait(HEARTBEAT_SECONDS):
                entries = [
                    {"Id": str(index), "ReceiptHandle": one.receipt, "VisibilityTimeout": VISIBILITY_SECONDS}
                    for index, one in enumerate(messages)
                ]
                self._client.change_message_visibility_batch(QueueUrl=url, Entries=entries)  # type: ignore[arg-type]

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
