"""Reads recorded events from a file, judges each line as the stream will, and shifts their times.

A file holds one JSON event a line, plain or gzipped. A line that the stream would put into quarantine is refused with its
number and reason, and keeps no other line from being published.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stillpoint.app.events import Arrival
from stillpoint.clock import from_micros, to_micros
from stillpoint.errors import InvalidInput
from stillpoint.events.documents import MalformedEvent
from stillpoint.events.parsing import PayloadParser

_GZIP = b"\x1f\x8b"
_LONGEST_LINE = 2**20
"""The longest record that Kinesis takes; of a longer line only the beginning is read."""


class Line(NamedTuple):
    """One line of a file: its number from 1, its bytes, whether it was cut at the limit, and the user whose event it is."""

    number: int
    payload: bytes
    cut: bool = False
    user: str = "unknown"


class RefusedLine(NamedTuple):
    """A line that is no event: why, and which field is at fault if it is a single one."""

    line: Line
    field: str | None
    reason: str

    def sentence(self) -> str:
        """Return line number, field and reason as one sentence."""
        return f"line {self.line.number}: {f'{self.field}: ' if self.field else ''}{self.reason}"


@dataclass(frozen=True, slots=True)
class JudgedLines:
    """The lines of a file that are valid events, and those that are refused."""

    events: tuple[Line, ...]
    refused: tuple[RefusedLine, ...]


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file of recorded events, plain or gzipped, blank ones left out.

    Raises:
        InvalidInput: there is no such file, or its gzip is damaged; the text names the last whole line.
    """
    number = 0
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            for line in _lines(gzip.GzipFile(fileobj=file)) if packed else _lines(file):
                number = line.number
                if line.payload.strip():
                    yield line
    except FileNotFoundError:
        raise InvalidInput(f"there is no file {path}; `stillpoint events simulate` makes one") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path} is damaged after line {number}: {error}; nothing of it was published") from None


def judge(lines: Iterable[Line], parser: PayloadParser, *, now: datetime, rebase: bool) -> JudgedLines:
    """Separate valid events from refused lines, with the stream's own code, as if the records arrived `now`.

    With `rebase` all times are shifted by the same duration so that the newest is `now`. An event of the future is refused before that,
    since it would shift all others into the past.
    """
    events: list[tuple[Line, Arrival]] = []
    refused: list[RefusedLine] = []
    for line in lines:
        event = _event(line, parser, now)
        if isinstance(event, MalformedEvent):
            refused.append(RefusedLine(line, event.field, event.reason))
        else:
            events.append((line._replace(user=event.user_id), event))
    if not rebase or not events:
        return JudgedLines(tuple(line for line, _ in events), tuple(refused))
    shift = now - from_micros(max(event.event_us for _, event in events))
    shifted: list[Line] = []
    for line, _ in events:
        try:
            later = line._replace(payload=_shifted(line.payload, shift))
        except OverflowError:
            refused.append(RefusedLine(line, "event_timestamp", "cannot be shifted: no time of the calendar is left"))
            continue
        shifted.append(later)
    return JudgedLines(tuple(shifted), tuple(sorted(refused, key=lambda one: one.line.number)))


def user_of(payload: bytes) -> str:
    """Return the partition key of a payload: its user id, or `unknown` for one that cannot be read."""
    try:
        user = json.loads(payload)["user_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "unknown"
    return user if isinstance(user, str) and user.isascii() and 0 < len(user) <= 256 else "unknown"


def _lines(file: BinaryIO | gzip.GzipFile) -> Iterator[Line]:
    number = 0
    while data := file.readline(_LONGEST_LINE + 1):
        number += 1
        cut = len(data) > _LONGEST_LINE and not data.endswith(b"\n")
        rest = data
        while cut and rest and not rest.endswith(b"\n"):
            rest = file.readline(_LONGEST_LINE)
        yield Line(number, data.rstrip(b"\r\n"), cut)


def _event(line: Line, parser: PayloadParser, now: datetime) -> Arrival | MalformedEvent:
    if line.cut:
        return MalformedEvent(None, f"over {_LONGEST_LINE} bytes, which Kinesis takes of no record")
    found = parser.parse(line.payload, to_micros(now))
    return found if isinstance(found, MalformedEvent) else found.arrival


def _shifted(payload: bytes, shift: timedelta) -> bytes:
    document = json.loads(payload)
    moment = datetime.fromisoformat(document["event_timestamp"].upper()) + shift
    return json.dumps(document | {"event_timestamp": moment.isoformat(timespec="microseconds")}).encode()
