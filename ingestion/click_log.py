"""Reads another system's click log, and gives each row as an event of the app. (pure but for reading the file)

A row that cannot be an event is refused later with its line, as every line of recorded events is: here words are only
translated. Rows come out in the order of their times, which such files often lack.
"""

import csv
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from ingestion.publish import Line
from stillpoint.app.events import Event
from stillpoint.app.fields import fields_of
from stillpoint.app.logs import ClickLog
from stillpoint.clock import from_micros
from stillpoint.dtypes import Kind
from stillpoint.errors import InvalidInput

_NAMESPACE = uuid.UUID("6f2d6a0e-8d0b-5c55-9a63-1f2d6a0e8d0b")
_UNITS = {10: 1_000_000, 13: 1_000, 16: 1}
"""Microseconds by how many digits a number of seconds, milliseconds or microseconds has in our time."""

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?\Z")
_DELIMITERS = (",", "\t", ";", "|")


def rows_as_events(lines: Iterable[Line], log: ClickLog) -> list[Line]:
    """Return the rows of a log as payloads, in the order of their times; those without a time come last.

    A row's event id follows from what it says and from how many equal rows stood before it, so that a file that is
    published twice gives duplicates.

    Raises:
        InvalidInput: the file has a header in which a column is missing that every event needs.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for number, row in _rows(lines, log):
        document = _document(row, log, seen)
        found.append((document["event_timestamp"] or "~", Line(number, orjson.dumps(document))))
    return [line for _, line in sorted(found, key=lambda one: one[0])]


def _rows(lines: Iterable[Line], log: ClickLog) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header: tuple[str, ...] | None = None
    delimiter = ","
    for line in lines:
        text = line.payload.decode("utf-8", errors="replace")
        if text.startswith("{"):
            yield from ((line.number, row) for row in _of_json(text))
            continue
        if header is None:
            delimiter = max(_DELIMITERS, key=text.count)
            named = tuple(name.strip().lower() for name in _cells(text, delimiter))
            if log.columns() & set(named):
                header = _complete(named, log)
                continue
            header = log.by_place
        yield line.number, dict(zip(header, _cells(text, delimiter), strict=False))


def _of_json(text: str) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(text)
    except ValueError:
        return [{}]
    inner = found.pop("events", None)
    rows = [found | one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else [found]
    return [{str(name).lower(): value for name, value in row.items()} for row in rows]


def _cells(text: str, delimiter: str) -> list[str]:
    return next(csv.reader([text], delimiter=delimiter), [])


def _complete(header: tuple[str, ...], log: ClickLog) -> tuple[str, ...]:
    for what, names in (("user or session", log.user), ("time", log.moment), ("event type", log.kind)):
        if not set(names) & set(header):
            raise InvalidInput(
                f"the log's header has no column of the {what}: found {', '.join(header)}; expected one of {', '.join(names)}"
            )
    return header


def _document(row: Mapping[str, Any], log: ClickLog, seen: Counter[tuple[str, ...]]) -> dict[str, Any]:
    user, word = _value(row, log.user), _value(row, log.kind)
    moment = as_time(_value(row, log.moment))
    event = log.kinds.get(str(word).strip().lower())
    values = {} if event is None else _values(row, log, event)
    told = (str(user), str(moment), str(word), *map(str, values.items()))
    seen[told] += 1
    event_id = uuid.uuid5(_NAMESPACE, "\x1f".join((log.name, *told, str(seen[told]))))
    return {
        "schema_version": 1,
        "event_id": str(event_id),
        "user_id": None if user is None else str(user),
        "type": word if event is None else event.type_name,
        "event_timestamp": moment,
        "platform": log.platform,
        **values,
    }


def _values(row: Mapping[str, Any], log: ClickLog, event: type[Event]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in fields_of(event).items():
        if name in log.fields:
            value = _value(row, log.fields[name])
            if value is None:
                value = log.missing.get(name)
            if value is not None:
                found[name] = _as(field.kind, value)
    return found


def _value(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first value that is there; an empty cell is none."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _as(kind: Kind | None, value: Any) -> Any:
    """Return a cell's text as the number that it writes; what is none stays as it is, to be refused."""
    if kind is Kind.TEXT:
        return value if isinstance(value, str) else str(value)
    if kind in (Kind.NUMBER, Kind.INTEGER) and isinstance(value, str):
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return value
        return int(number) if number == number.to_integral_value() else float(number)
    return value


def as_time(value: Any) -> str | None:
    """Return a time as events carry it: from seconds, milliseconds or microseconds since 1970, or from text with a zone.

    >>> as_time(1433221332117), as_time("2019-10-01 00:00:00 UTC")
    ('2015-06-02T05:02:12.117000+00:00', '2019-10-01T00:00:00+00:00')

    Text without a zone stays as it is, to be refused: whose noon it tells is unknown.
    """
    if value is None:
        return None
    text = str(value).strip()
    if _NUMBER.match(text):
        unit = _UNITS.get(len(text.partition(".")[0]))
        if unit is None:
            return text
        return from_micros(int(Decimal(text) * unit)).isoformat()
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC") + "+00:00" if text.endswith(" UTC") else text)
    except ValueError:
        return text
    return text if moment.tzinfo is None else moment.isoformat()
