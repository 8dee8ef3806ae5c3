"""How many messages wait in each queue, and in the dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stillpoint.errors import StackUnavailable
from stillpoint.outages import outage
from stillpoint.settings import Settings


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: messages that wait, that somebody works on, and that wait for their time."""

    name: str
    what: str
    waiting: int
    in_work: int
    delayed: int
    dead_letters: bool = False


def queues(settings: Settings, sqs: Any) -> tuple[Queue, ...]:
    """Ask SQS for the queues' counts, which are approximate by SQS's own word.

    Raises:
        StackUnavailable: SQS does not answer, or a queue does not exist.
    """
    names = (
        (settings.prediction_queue, "prediction requests", False),
        (settings.prediction_dead_letters, "requests that failed for good", True),
        (settings.push_queue, "pushes for devices", False),
        (settings.served_queue, "answers of functions on their way to the lake", False),
    )
    found = []
    for name, what, dead in names:
        try:
            url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
            counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        except Exception as error:
            if outage(error) is None and not _missing(error):
                raise
            why = "does not exist; `stillpoint up` makes it" if _missing(error) else "cannot be asked: SQS is away"
            raise StackUnavailable(f"the queue {name} {why}") from error
        found.append(
            Queue(
                name=name,
                what=what,
                waiting=_number(counts, ""),
                in_work=_number(counts, "NotVisible"),
                delayed=_number(counts, "Delayed"),
                dead_letters=dead,
            )
        )
    return tuple(found)


def _missing(error: Exception) -> bool:
    return type(error).__name__ == "QueueDoesNotExist" or "NonExistentQueue" in str(error)


def _number(counts: Mapping[str, str], suffix: str) -> int:
    return int(counts.get(f"ApproximateNumberOfMessages{suffix}", 0))
