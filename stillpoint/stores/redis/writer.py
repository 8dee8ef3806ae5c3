"""Writes rows to Redis so that the newest row always wins, with any number of concurrent writers.

One Lua call compares and writes many entities, each atomically. A row replaces the stored one unless its (event time,
created time) is smaller; of equal times the last written wins, as offline the last stored. A row without a created time is
older than every row of the same event time that has one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stillpoint.errors import InvalidInput
from stillpoint.stores.redis.client import AnyRedis
from stillpoint.stores.redis.connection import explain, is_cluster
from stillpoint.stores.redis.corrupt import corrupt_time
from stillpoint.stores.redis.keys import encode_keys
from stillpoint.stores.redis.layout import ViewLayout, encode_created
from stillpoint.stores.redis.rows import bulk_rows
from stillpoint.stores.redis.script import ORDERED_WRITE, ListedRows, PackedRows, ScriptCall, script_calls
from stillpoint.stores.redis.wrong_value import wrong_value
from stillpoint.stores.values.columns import encode_column
from stillpoint.stores.values.exact_times import utc_micros
from stillpoint.stores.values.times import encode_time

EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"
NO_CREATED = b""

_CALLS_PER_ROUND_TRIP = 32
_CALLS_PER_ROUND_TRIP_TO_CLUSTER = 1_024
"""On a cluster a call writes the rows of one hash slot, which are few; each round trip waits for replicas."""
_BYTES_PER_ROUND_TRIP = 8 << 20
_MANY = 128


@dataclass(frozen=True, slots=True)
class WriteResult:
    """How many rows were written, and how many changed nothing because a newer row was stored."""

    written: int
    older: int

    def __add__(self, other: "WriteResult") -> "WriteResult":
        return WriteResult(self.written + other.written, self.older + other.older)


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows of one view as columns of bytes: keys, event times, created times (empty if unknown), feature values."""

    keys: list[bytes]
    events: list[bytes]
    created: list[bytes]
    values: list[list[bytes]]

    def __len__(self) -> int:
        return len(self.keys)


def encode_rows(layout: ViewLayout, table: Any, project: str) -> EncodedRows:
    """Encode an Arrow table: the join keys, `event_timestamp`, optionally `created_timestamp`, and all features by name.

    Times must have a zone. Columns that the view does not have are ignored.

    Raises:
        InvalidInput: names the view and the column that is missing, null where it must not be, or of the wrong type.
    """
    event_times, created_times = _times(layout, table)
    keys = encode_keys(layout, table, project)
    times: dict[int, bytes] = {}
    events = [times.get(value) or times.setdefault(value, encode_time(value)) for value in event_times.to_pylist()]
    created = [NO_CREATED] * len(keys)
    if created_times is not None:
        created = [
            NO_CREATED if value is None else encode_created(value, event)
            for value, event in zip(created_times.to_pylist(), events, strict=True)
        ]
    values = []
    for column in layout.features:
        try:
            values.append(encode_column(column.type, table.column(column.name)))
        except InvalidInput:
            raise wrong_value(layout, column, table, project) from None
    return EncodedRows(keys, events, created, values)


def pack_rows(layout: ViewLayout, table: Any, project: str) -> PackedRows:
    """Encode a table to the same bytes as `encode_rows`, in the form that is sent; quicker for many rows, slower for few.

    Raises:
        InvalidInput: as `encode_rows`.
    """
    if table.num_rows < _MANY:
        return _listed(encode_rows(layout, table, project))
    return bulk_rows(layout, table, project, *_times(layout, table))


def _listed(rows: EncodedRows) -> ListedRows:
    return ListedRows.of(rows.keys, [rows.events, rows.created, *rows.values])


def _times(layout: ViewLayout, table: Any) -> tuple[pa.Int64Array, pa.Int64Array | None]:
    """Check that the table has every column, and return event and created times in microseconds since 1970."""
    names = set(table.column_names)
    wanted = [column.name for column in (*layout.join_keys, *layout.features)] + [EVENT_TIMESTAMP]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InvalidInput(
            f"view {layout.name}: column {', '.join(missing)} is missing; the table has {', '.join(sorted(names))}"
        )
    events = _micros(layout, table, EVENT_TIMESTAMP)
    if events.null_count:
        raise InvalidInput(
            f"view {layout.name}: {EVENT_TIMESTAMP} of row {events.is_null().index(True).as_py()} is null"
        )
    return events, _micros(layout, table, CREATED_TIMESTAMP) if CREATED_TIMESTAMP in names else None


def _micros(layout: ViewLayout, table: Any, name: str) -> pa.Int64Array:
    column = table.column(name)
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise InvalidInput(
            f"view {layout.name}: column {name} has type {column.type}; expected timestamp with a time zone"
        )
    return utc_micros(column)


class OnlineWriter:
    """Writes rows of any view of one project to Redis or Redis Cluster; safe with any number of other writers."""

    def __init__(self, client: AnyRedis, project: str, *, key_ttl_seconds: int | None = None) -> None:
        self._client = client
        self._project = project
        self._ttl = key_ttl_seconds or 0
        self._cluster = is_cluster(client)

    @property
    def project(self) -> str:
        return self._project

    def write(self, layout: ViewLayout, table: Any) -> WriteResult:
        """Write an Arrow table (see `encode_rows`) and return how many rows were newer than the stored ones.

        Idempotent: writing the same rows again only renews the keys' time to live. If it fails half-way, each entity is
        either entirely old or entirely new; write the table again.

        Raises:
            InvalidInput: a column is missing or of the wrong type; nothing was written.
            StackUnavailable: Redis is down, slow, full, read-only, or forbids it.
            CorruptData: the stored event time of an entity is not a timestamp; names view and entity.
        """
        return self._write(layout, pack_rows(layout, table, self._project))

    def write_encoded(self, layout: ViewLayout, rows: EncodedRows) -> WriteResult:
        """Write encoded rows."""
        return self._write(layout, _listed(rows))

    def _write(self, layout: ViewLayout, rows: PackedRows) -> WriteResult:
        result = WriteResult(0, 0)
        for batch in self._round_trips(layout, rows):
            replies = ORDERED_WRITE.run(self._client, [call.command for call in batch])
            result += self._sum(layout, batch, replies)
        return result

    async def write_encoded_async(self, layout: ViewLayout, rows: EncodedRows) -> WriteResult:
        """Write encoded rows with an asyncio client."""
        result = WriteResult(0, 0)
        for batch in self._round_trips(layout, _listed(rows)):
            replies = await ORDERED_WRITE.run_async(self._client, [call.command for call in batch])
            result += self._sum(layout, batch, replies)
        return result

    def _round_trips(self, layout: ViewLayout, rows: PackedRows) -> Iterator[list[ScriptCall]]:
        calls = script_calls(layout, rows, ttl_seconds=self._ttl, by_slot=self._cluster)
        limit = _CALLS_PER_ROUND_TRIP_TO_CLUSTER if self._cluster else _CALLS_PER_ROUND_TRIP
        batch: list[ScriptCall] = []
        size = 0
        for call in calls:
            if batch and (len(batch) == limit or size + len(call.command.data) > _BYTES_PER_ROUND_TRIP):
                yield batch
                batch, size = [], 0
            batch.append(call)
            size += len(call.command.data)
        if batch:
            yield batch

    def _sum(self, layout: ViewLayout, calls: Sequence[ScriptCall], replies: Sequence[Any]) -> WriteResult:
        written = older = 0
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, Exception):
                text = str(reply)
                if text.startswith("CORRUPT "):
                    raise corrupt_time(layout.name, call.key(int(text.split()[1])))
                raise explain(reply, self._client)
            written += int(reply)
            older += call.count - int(reply)
        return WriteResult(written, older)
