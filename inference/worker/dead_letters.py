"""Permanent failures go to the dead-letter queue, with the reason beside the message.

After a message's last receive the worker itself moves it to the queue's dead-letter queue, with the reason as a message
attribute. SQS would move it one receive later without a reason; that still happens to messages that kill the process. A
request that was delayed by an outage, or that only a later version of the program knows, has not failed: at its last
receive it is sent again as a new message, whose receives count from zero.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from inference.worker.jobs import QueuedMessage
from stillpoint.messages import PredictionRequest, later_version

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

REASON = "reason"
RECEIVES = "receives"
REASON_LENGTH = 1_000
RENEWED_AFTER_SECONDS = 15
"""Delay of a message that is sent again, so that an outage is not met in a tight loop."""
_AT_ONCE = 10


class DeadLetters:
    """A queue's dead-letter queue and largest number of receives, as its redrive policy names them."""

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        """Read the queue's redrive policy. Without one, no message is ever moved."""
        self._client = client
        names: Any = ["RedrivePolicy", "MessageRetentionPeriod"]
        found = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names).get("Attributes", {})
        rule = json.loads(found.get("RedrivePolicy", "{}"))
        self._queue_url = queue_url
        self._kept = timedelta(seconds=int(found.get("MessageRetentionPeriod", 345_600)))
        self._limit = int(rule.get("maxReceiveCount", 0))
        self._url = (
            client.get_queue_url(QueueName=rule["deadLetterTargetArn"].rpartition(":")[2])["QueueUrl"] if rule else ""
        )

    def bury(self, messages: Sequence[QueuedMessage], reasons: Mapping[str, str]) -> list[QueuedMessage]:
        """Copy the messages that failed at their last receive to the dead-letter queue; return them, to be deleted.

        `reasons` are by receipt. If the copy fails, SQS moves the message later, without the reason. If the process is
        killed before the deletion, the dead-letter queue gets the message twice; `request_id` identifies copies.
        """
        last = self._last(messages, reasons)
        entries = [
            {
                "MessageBody": one.body,
                "MessageAttributes": {
                    REASON: _text(reasons[one.receipt][:REASON_LENGTH]),
                    RECEIVES: {"DataType": "Number", "StringValue": str(one.receives)},
                },
            }
            for one in last
        ]
        moved = self._send(self._url, last, entries)
        for one in moved:
            log.error("a prediction request is given up after %d receives: %s", one.receives, reasons[one.receipt])
        return moved

    def renew(
        self, messages: Sequence[QueuedMessage], put_off: Mapping[str, str], *, now: datetime
    ) -> list[QueuedMessage]:
        """Send the messages that an outage delayed at their last receive again; return the originals, to be deleted.

        `put_off` is by receipt. A request older than the queue's retention is left to SQS. If the process is killed before
        the deletion, the original also reaches the dead-letter queue; `request_id` identifies copies.
        """
        last = [one for one in self._last(messages, put_off) if now - _enqueued(one, now) < self._kept]
        entries = [{"MessageBody": one.body, "DelaySeconds": RENEWED_AFTER_SECONDS} for one in last]
        return self._send(self._queue_url, last, entries)

    def _last(self, messages: Sequence[QueuedMessage], reasons: Mapping[str, str]) -> list[QueuedMessage]:
        return [one for one in messages if one.receipt in reasons and 0 < self._limit <= one.receives]

    def _send(
        self, url: str, messages: Sequence[QueuedMessage], entries: Sequence[dict[str, Any]]
    ) -> list[QueuedMessage]:
        """Send one entry per message, and return the messages whose entry SQS accepted."""
        sent: list[QueuedMessage] = []
        for start in range(0, len(messages), _AT_ONCE):
            part = messages[start : start + _AT_ONCE]
            numbered: Any = [{"Id": str(n), **one} for n, one in enumerate(entries[start : start + _AT_ONCE])]
            answer = self._client.send_message_batch(QueueUrl=url, Entries=numbered)
            sent += [part[int(taken["Id"])] for taken in answer.get("Successful", ())]
            for refused in answer.get("Failed", ()):
                log.error("a request could not be moved: %s", refused.get("Message"))
        return sent


def _enqueued(message: QueuedMessage, now: datetime) -> datetime:
    """Return when a request was first put on the queue; `now` for a body that is not a request."""
    try:
        return PredictionRequest.model_validate_json(message.body).enqueued_at
    except ValueError:
        later = later_version(message.body)
        return now if later is None else later[1]


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}
