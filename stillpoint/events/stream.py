"""Sends payloads to the event stream, in order for each user and without loss."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stillpoint.errors import StackUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_RECORDS_PER_CALL = 500
_BYTES_PER_CALL = 5 * 1024 * 1024
_TRIES = 8


def put_events(client: "KinesisClient", stream: str, payloads: Sequence[tuple[str, bytes]]) -> int:
    """Put (user id, payload) pairs, in order for each user, and return how many calls it took.

    Kinesis may refuse some records of a call. A refused record is sent again together with all later ones of the same user,
    so that the user's order holds; those that had been accepted arrive twice, and the second becomes a duplicate.

    Raises:
        StackUnavailable: the stream kept refusing; the text says how many were not accepted.
    """
    calls = 0
    for waiting in _groups(payloads):
        for attempt in range(_TRIES):
            answer = client.put_records(
                StreamName=stream, Records=[{"PartitionKey": user, "Data": data} for user, data in waiting]
            )
            calls += 1
            if not answer["FailedRecordCount"]:
                break
            waiting = _again(waiting, answer["Records"])
            time.sleep(min(2.0, 0.05 * 2**attempt))
        else:
            raise StackUnavailable(
                f"Kinesis stream {stream} refused {len(waiting)} events {_TRIES} times; they were not accepted"
            )
    return calls


def _groups(payloads: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the payloads in batches of the size that one PutRecords call accepts, partition keys included."""
    group: list[tuple[str, bytes]] = []
    size = 0
    for user, data in payloads:
        own = len(user.encode()) + len(data)
        if group and (len(group) == _RECORDS_PER_CALL or size + own > _BYTES_PER_CALL):
            yield group
            group, size = [], 0
        group.append((user, data))
        size += own
    if group:
        yield group


def _again(sent: Sequence[tuple[str, bytes]], answers: Sequence[Any]) -> list[tuple[str, bytes]]:
    behind: set[str] = set()
    again = []
    for (user, data), answer in zip(sent, answers, strict=True):
        if answer.get("ErrorCode") or user in behind:
            behind.add(user)
            again.append((user, data))
    return again
