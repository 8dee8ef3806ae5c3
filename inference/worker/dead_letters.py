"""Permanent failures go to the dead-letter queue, with the reason beside the message.

In the queue's own dead-letter queue, moved there by us at the last receive with the reason as a message attribute. SQS
would move it just so one receive later, but silently; that remains for requests that end the process itself.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inference.worker.jobs import QueuedMessage

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

REASON = "reason"
RECEIVES = "receives"
REASON_LENGTH = 1_000
_AT_ONCE = 10


class DeadLetters:
    """The dead-letter queue that the redrive policy of a queue names, and after how many receives."""

    def __init__(self, client: "SQSClient", queue_url: str) -> None:
        """Read the queue's redrive policy. Without one, nothing is ever moved."""
        self._client = client
        names: Any = ["RedrivePolicy"]
        policy = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names).get("Attributes", {})
        rule = json.loads(policy.get("RedrivePolicy", "{}"))
        self._limit = int(rule.get("maxReceiveCount", 0))
        self._url = (
            client.get_queue_url(QueueName=rule["deadLetterTargetArn"].rpartition(":")[2])["QueueUrl"] if rule else ""
        )

    def bury(self, messages: Sequence[QueuedMessage], reasons: Mapping[str, str]) -> list[QueuedMessage]:
        """Move the messages that failed at their last receive, and return those that now lie there, to be deleted.

        `reasons` are by receipt. A message whose move fails is left to SQS, which moves it without the reason. Killed
        between the move and the deletion, a message lies there twice; `request_id` tells.
        """
        last = [one for one in messages if one.receipt in reasons and 0 < self._limit <= one.receives]
        moved: list[QueuedMessage] = []
        for start in range(0, len(last), _AT_ONCE):
            part = last[start : start + _AT_ONCE]
            entries: Any = [
                {
                    "Id": str(place),
                    "MessageBody": one.body,
                    "MessageAttributes": {
                        REASON: _text(reasons[one.receipt][:REASON_LENGTH]),
                        RECEIVES: {"DataType": "Number", "StringValue": str(one.receives)},
                    },
                }
                for place, one in enumerate(part)
            ]
            answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
            moved += [part[int(done["Id"])] for done in answer.get("Successful", ())]
            for refused in answer.get("Failed", ()):
                log.error("a request could not be moved to the dead letters: %s", refused.get("Message"))
        for one in moved:
            log.error("a prediction request is given up after %d receives: %s", one.receives, reasons[one.receipt])
        return moved


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}
