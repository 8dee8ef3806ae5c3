"""Sends prediction requests to SQS."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from stillpoint.errors import StackUnavailable

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_PER_CALL = 10
_TRIES = 6
_CALLS_AT_ONCE = 8


class RequestQueue:
    """Sends prediction requests to SQS, at least once."""

    def __init__(self, client: "SQSClient", name: str) -> None:
        self._client = client
        self._name = name
        self._url: str | None = None

    def send(self, requests: Sequence[str]) -> None:
        """Send all requests, in no particular order. What SQS refuses of a call is sent again.

        Raises:
            StackUnavailable: the queue kept refusing. What was sent stays sent; sending all again is safe.
        """
        if not requests:
            return
        if self._url is None:
            self._url = self._client.get_queue_url(QueueName=self._name)["QueueUrl"]
        url = self._url
        groups = [requests[start : start + _PER_CALL] for start in range(0, len(requests), _PER_CALL)]
        with ThreadPoolExecutor(min(_CALLS_AT_ONCE, len(groups))) as pool:
            list(pool.map(lambda group: self._send_group(url, group), groups))

    def _send_group(self, url: str, requests: Sequence[str]) -> None:
        waiting = {str(index): body for index, body in enumerate(requests)}
        for attempt in range(_TRIES):
            answer = self._client.send_message_batch(
                QueueUrl=url, Entries=[{"Id": key, "MessageBody": body} for key, body in waiting.items()]
            )
            waiting = {failed["Id"]: waiting[failed["Id"]] for failed in answer.get("Failed", ())}
            if not waiting:
                return
            time.sleep(min(2.0, 0.05 * 2**attempt))
        raise StackUnavailable(f"queue {self._name} refused {len(waiting)} prediction requests {_TRIES} times")
