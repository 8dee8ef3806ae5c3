"""How do payloads get into Kinesis, in order and without loss?"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillpoint.errors import InvalidInput, StackUnavailable

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

_RECORDS_PER_CALL = 500
_TRIES = 8


def put_events(client: "KinesisClient", stream: str, payloads: Sequence[tuple[str, bytes]]) -> int:
    """Put (user id, payload) pairs, in order for each user, and return how many calls it took.

    Kinesis may refuse some records of a call. What follows a refused record of the same user is sent again behind it, so
    that the user's order holds; a record of theirs that had got through already arrives twice and becomes a duplicate.

    Raises:
        StackUnavailable: the stream kept refusing; the text says how many were not accepted.
    """
    calls = 0
    for start in range(0, len(payloads), _RECORDS_PER_CALL):
        waiting = list(payloads[start : start + _RECORDS_PER_CALL])
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


def _again(sent: Sequence[tuple[str, bytes]], answers: Sequence[Any]) -> list[tuple[str, bytes]]:
    behind: set[str] = set()
    again = []
    for (user, data), answer in zip(sent, answers, strict=True):
        if answer.get("ErrorCode") or user in behind:
            behind.add(user)
            again.append((user, data))
    return again


def read_events(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file of recorded events, blank ones left out.

    Raises:
        InvalidInput: there is no such file.
    """
    try:
        with path.open("rb") as file:
            yield from (line.rstrip(b"\r\n") for line in file if line.strip())
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; `stillpoint events simulate` makes one") from None


def rebase(payloads: Iterable[bytes], *, newest: datetime) -> list[bytes]:
    """Shift all event times by one span so that the newest is `newest`. What is not a dated event stays as it is."""
    documents = [(payload, _dated(payload)) for payload in payloads]
    times = [moment for _, dated in documents if dated is not None for moment in (dated[1],)]
    if not times:
        return [payload for payload, _ in documents]
    shift: timedelta = newest - max(times)
    return [
        payload
        if dated is None
        else json.dumps(dated[0] | {"event_timestamp": (dated[1] + shift).isoformat(timespec="microseconds")}).encode()
        for payload, dated in documents
    ]


def user_of(payload: bytes) -> str:
    """Return the partition key of a payload: its user id, or `unknown` for one that cannot be read."""
    try:
        user = json.loads(payload)["user_id"]
    except (ValueError, KeyError, TypeError):
        return "unknown"
    return user if isinstance(user, str) and 0 < len(user) <= 256 else "unknown"


def _dated(payload: bytes) -> tuple[dict[str, Any], datetime] | None:
    try:
        document = json.loads(payload)
        moment = datetime.fromisoformat(document["event_timestamp"])
    except (ValueError, KeyError, TypeError):
        return None
    return (document, moment) if moment.tzinfo is not None else None
