"""A worker's thread that commits to the lake what functions have served, from the queue, many messages in one commit.

Messages are deleted once their rows are committed; until then, and if this process dies, the queue gives them to another.
A commit names the messages that it holds, so that one which comes back is recognised. Rows of erased users are dropped.
"""

import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from inference.predictions.served_log import commit_served
from inference.predictions.served_queue import ServedMessage
from stillpoint.clock import Clock
from stillpoint.errors import CorruptData
from stillpoint.lake.tables import Lake
from stillpoint.outages import OutageLog, outage
from stillpoint.served_rows import SERVED_MESSAGES

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

WRITER = "served-queue-"
BATCH = 2_000
GATHER_SECONDS = 10.0
"""How long rows are gathered for one commit, unless `BATCH` are there before."""
VISIBILITY_SECONDS = 180
WAIT_SECONDS = 2
ABSENT_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class _Received:
    message: ServedMessage
    table: pa.Table
    receipt: str
    again: bool


class ServedDrain:
    """Drains one queue into one lake. What is not committed stays on the queue."""

    def __init__(self, client: "SQSClient", queue: str, lake: Lake, *, clock: Clock, erasure_key: bytes) -> None:
        self._client = client
        self._queue = queue
        self._lake = lake
        self._clock = clock
        self._erasure_key = erasure_key
        self._writer = f"{WRITER}{uuid.uuid4().hex[:12]}"
        self._sequence = 0
        self._url = ""
        self._done: OrderedDict[str, None] = OrderedDict()
        self._unreadable: OrderedDict[str, None] = OrderedDict()
        self._away = OutageLog(log, "rows of the served log wait on their queue")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served-drain", daemon=True)

    def start(self) -> None:
        """Drain from now on."""
        self._thread.start()

    def close(self) -> None:
        """Commit what was received, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(30)

    def step(self, *, gather_seconds: float = GATHER_SECONDS) -> int:
        """Commit what is there, at most about `BATCH` rows, and return how many messages were taken off the queue."""
        if not self._url:
            self._url = self._client.get_queue_url(QueueName=self._queue)["QueueUrl"]
        received = self._gather(gather_seconds)
        known = self._known([one for one in received if one.again])
        new: dict[str, _Received] = {}
        for one in received:
            if one.message.id not in known and one.message.id not in self._done:
                new.setdefault(one.message.id, one)
        if new:
            self._commit(list(new.values()))
        for one in received:
            self._remember(self._done, one.message.id)
        self._delete(received)
        return len(received)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                self.step()
            except self._client.exceptions.QueueDoesNotExist:
                self._stop.wait(ABSENT_SECONDS)  # no functions run here
            except Exception as error:  # what was received comes back by itself; the thread must live
                if outage(error) is None:
                    log.exception("the served log's queue cannot be drained; trying again")
                else:
                    self._away.met(error, now=time.monotonic())
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                self._away.over(now=time.monotonic())
                pause = FIRST_PAUSE_SECONDS

    def _gather(self, seconds: float) -> list[_Received]:
        received: list[_Received] = []
        rows, end = 0, None
        while rows < BATCH:
            answer: Any = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=WAIT_SECONDS if not received else 0,
                VisibilityTimeout=VISIBILITY_SECONDS,
                AttributeNames=["ApproximateReceiveCount"],
            )
            found = [one for one in map(self._opened, answer.get("Messages", ())) if one is not None]
            received += found
            rows += sum(one.message.rows for one in found)
            if not received:
                return []
            end = end or time.monotonic() + seconds
            if time.monotonic() >= end or self._stop.is_set():
                break
            if not answer.get("Messages"):
                self._stop.wait(min(1.0, max(0.0, end - time.monotonic())))
        return received

    def _opened(self, message: Any) -> _Received | None:
        """Return a message's rows. One that cannot be read stays on the queue, for a later program or for us to look at."""
        try:
            opened = ServedMessage.model_validate_json(message["Body"])
            table = opened.table()
        except (ValueError, CorruptData) as error:
            if message["MessageId"] not in self._unreadable:
                log.error("message %s of the served log is left on the queue: %s", message["MessageId"], error)
            self._remember(self._unreadable, message["MessageId"])
            return None
        again = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)) > 1
        return _Received(opened, table, message["ReceiptHandle"], again)

    def _known(self, received: Sequence[_Received]) -> set[str]:
        """Return which messages that came back are committed: their deletion failed, or their worker died before it."""
        if not received:
            return set()
        wanted = {one.message.id for one in received}
        named = (str(commit.properties.get(SERVED_MESSAGES) or "") for commit in self._lake.commits())
        return wanted.intersection(word for words in named for word in words.split())

    def _commit(self, received: Sequence[_Received]) -> None:
        table = pa.concat_tables(one.table for one in received).combine_chunks()
        sequence, self._sequence = self._sequence, self._sequence + 1
        commit_served(
            self._lake,
            self._writer,
            sequence,
            table,
            at=self._clock(),
            erasure_key=self._erasure_key,
            messages=[one.message.id for one in received],
        )

    def _delete(self, received: Sequence[_Received]) -> None:
        for start in range(0, len(received), 10):
            entries: Any = [
                {"Id": str(number), "ReceiptHandle": one.receipt}
                for number, one in enumerate(received[start : start + 10])
            ]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    @staticmethod
    def _remember(ids: "OrderedDict[str, None]", one: str) -> None:
        ids[one] = None
        while len(ids) > REMEMBERED:
            ids.popitem(last=False)
