"""Reads recorded events from a file, and shifts them in time."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from stillpoint.errors import InvalidInput


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
