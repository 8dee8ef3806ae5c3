"""What crosses the second shuffle: for each view and key the on-time events of one part, and the part's report."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from stillpoint.app.events import Arrival, Event
from stillpoint.app.load import App
from stillpoint.features.streamed.definition import Key

EXCHANGED = "place string, view string, key string, events binary, report string"
"""The columns, as Spark names them. `place` decides the partition; a report has an empty one, so all come together."""

_COLUMNS = ("place", "view", "key", "events", "report")
_encode = msgspec.msgpack.Encoder().encode


class KeyPartition(NamedTuple):
    """What one partition of the second shuffle got: the parts' reports, and events by view and key."""

    reports: list[str]
    events: dict[str, dict[Key, list[Arrival]]]


def key_name(key: Key) -> str:
    """Return a key as text, by which its state is stored.

    >>> key_name(("c1", "sleep"))
    '["c1", "sleep"]'
    """
    return json.dumps(key, ensure_ascii=False)


def exchanged_rows(report: str, keyed: Mapping[str, Mapping[Key, Sequence[Arrival]]]) -> pa.RecordBatch:
    """Return a part's report and events as rows."""
    rows: list[tuple[Any, ...]] = [("", None, None, None, report)]
    for view, groups in keyed.items():
        for key, arrivals in groups.items():
            name = key_name(key)
            rows.append((f"{view}/{name}", view, name, _encode(arrivals), None))
    types = [pa.string(), pa.string(), pa.string(), pa.binary(), pa.string()]
    arrays = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(_COLUMNS))


def exchanged(batches: Iterable[pa.RecordBatch], app: App) -> KeyPartition:
    """Return what rows of `exchanged_rows` hold. A key's events are in the order of their arrival, then of their ids."""
    found = KeyPartition([], {})
    decode = _decoder(app)
    for batch in batches:
        _, *columns = (column.to_pylist() for column in batch.columns)
        for view, name, events, report in zip(*columns, strict=True):
            if report is not None:
                found.reports.append(report)
            else:
                key = tuple(json.loads(name))
                arrivals = [Arrival(*one) for one in decode(events)]
                found.events.setdefault(view, {}).setdefault(key, []).extend(arrivals)
    for groups in found.events.values():
        for arrivals in groups.values():
            arrivals.sort(key=lambda one: (one.arrived_us, one.key))
    return found


@lru_cache(maxsize=4)
def _decoders(events: tuple[type[Event], ...]) -> Any:
    union: Any = events[0]
    for event in events[1:]:
        union = union | event
    return msgspec.msgpack.Decoder(list[tuple[union, int, int, bytes]]).decode


def _decoder(app: App) -> Any:
    return _decoders(app.events)
