"""How does a row reach Redis so that the newest always wins, whoever else writes?

One Lua call compares and writes many entities, each atomically: a row replaces the stored one only if its (event time,
created time) is greater. A row without a created time is older than every row of the same event time that has one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from redis.crc import key_slot
from redis.exceptions import NoScriptError

from stillpoint.errors import InvalidInput
from stillpoint.stores.connection import explain, is_cluster
from stillpoint.stores.connection_pipeline import Command, send, send_async
from stillpoint.stores.corrupt import corrupt_time
from stillpoint.stores.layout import ViewLayout, encode_created, encode_time
from stillpoint.stores.layout_keys import encode_keys
from stillpoint.stores.values_columns import encode_column

EVENT_TIMESTAMP = "event_timestamp"
CREATED_TIMESTAMP = "created_timestamp"
NO_CREATED = b""

SCRIPT = b"""
local function stamp(s)
  local seconds, nanos, i, n = 0, 0, 1, #s
  while i <= n do
    local tag, value, scale, b = string.byte(s, i), 0, 1, 128
    local digits = 0
    while b >= 128 do
      i = i + 1
      b = string.byte(s, i)
      digits = digits + 1
      if not b then return nil end
      value = value + (b % 128) * scale
      scale = scale * 128
    end
    if digits == 10 then value = value - 18446744073709551616 end
    if tag == 8 then seconds = value elseif tag == 16 then nanos = value else return nil end
    i = i + 1
  end
  return seconds, nanos
end
local function later(new, old)
  if new == old then return 0 end
  local s1, n1 = stamp(new)
  local s2, n2 = stamp(old)
  if not s2 then return nil end
  if s1 ~= s2 then return s1 > s2 and 1 or -1 end
  if n1 ~= n2 then return n1 > n2 and 1 or -1 end
  return 0
end
local width, ttl, event_field, created_field = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local put = {event_field, '', created_field, ''}
for j = 1, width do put[3 + 2 * j] = ARGV[4 + j] end
local at, total, written = 4 + width, 4 + 2 * width, {}
for i = 1, #KEYS do
  local key, event, created = KEYS[i], ARGV[at + 1], ARGV[at + 2]
  local stored = redis.call('HMGET', key, event_field, created_field)
  local old, old_created = stored[1], stored[2]
  local wins = true
  if old then
    local order = later(event, old)
    if order == nil then
      return redis.error_reply('CORRUPT ' .. i)
    elseif order < 0 then
      wins = false
    elseif order == 0 then
      if created == '' then
        wins = false
      elseif old_created and string.sub(old_created, 9) == old then
        local s1, m1 = struct.unpack('<i5I3', created)
        local s2, m2 = struct.unpack('<i5I3', old_created)
        wins = s1 > s2 or (s1 == s2 and m1 > m2)
      end
    end
  end
  if wins then
    put[2] = event
    for j = 1, width do put[4 + 2 * j] = ARGV[at + 2 + j] end
    local first = 1
    if created == '' then
      put[3], put[4] = event_field, event
    else
      put[3], put[4] = created_field, created
    end
    while first <= total do
      redis.call('HSET', key, unpack(put, first, math.min(first + 1999, total)))
      first = first + 2000
    end
    if ttl > 0 then redis.call('EXPIRE', key, ttl) end
    written[#written + 1] = i
  end
  at = at + 2 + width
end
return #written
"""
"""KEYS: entities. ARGV: number of features, key's seconds to live (0: for ever), `_ts:` field, `_cts:` field, feature
fields, then per entity: event time, created time with its event time or empty, values. Returns how many were written."""

_SHA = hashlib.sha1(SCRIPT).hexdigest().encode()
_ROWS_PER_CALL = 128
_BYTES_PER_CALL = 256 * 1024
_CALLS_PER_ROUND_TRIP = 32


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of the rows: `older` ones were not newer than what was stored, and changed nothing."""

    written: int
    older: int

    def __add__(self, other: "WriteResult") -> "WriteResult":
        return WriteResult(self.written + other.written, self.older + other.older)


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows of one view, column by column, as bytes: keys, event times, created times (empty: none), feature values."""

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
    names = set(table.column_names)
    wanted = [column.name for column in (*layout.join_keys, *layout.features)] + [EVENT_TIMESTAMP]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InvalidInput(
            f"view {layout.name}: column {', '.join(missing)} is missing; the table has {', '.join(sorted(names))}"
        )
    keys = encode_keys(layout, table, project)
    event_us = _micros(layout, table, EVENT_TIMESTAMP)
    if any(value is None for value in event_us):
        raise InvalidInput(f"view {layout.name}: {EVENT_TIMESTAMP} of row {event_us.index(None)} is null")
    times: dict[int, bytes] = {}
    events = [times.get(value) or times.setdefault(value, encode_time(value)) for value in event_us]
    created = [NO_CREATED] * len(keys)
    if CREATED_TIMESTAMP in names:
        created_us = _micros(layout, table, CREATED_TIMESTAMP)
        created = [
            NO_CREATED if value is None else encode_created(value, event)
            for value, event in zip(created_us, events, strict=True)
        ]
    values = []
    for column in layout.features:
        try:
            values.append(encode_column(column.type, table.column(column.name)))
        except InvalidInput as error:
            raise InvalidInput(f"feature {layout.name}:{column.name}: {error}") from None
    return EncodedRows(keys, events, created, values)


def _micros(layout: ViewLayout, table: Any, name: str) -> list[Any]:
    column = table.column(name)
    if not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise InvalidInput(
            f"view {layout.name}: column {name} has type {column.type}; expected timestamp with a time zone"
        )
    values: list[Any] = column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64()).to_pylist()
    return values


class OnlineWriter:
    """Writes rows of any view of one project to one Redis or Redis Cluster; safe beside any number of other writers."""

    def __init__(self, client: Any, project: str, *, key_ttl_seconds: int | None = None) -> None:
        self._client = client
        self._project = project
        self._ttl = b"%d" % (key_ttl_seconds or 0)
        self._cluster = is_cluster(client)

    @property
    def project(self) -> str:
        return self._project

    def write(self, layout: ViewLayout, table: Any) -> WriteResult:
        """Write an Arrow table (see `encode_rows`) and return how many rows won.

        Can be repeated: the same rows again are `older`. If it fails half-way, each entity is either wholly old or wholly
        new; write the table again.

        Raises:
            InvalidInput: a column is missing or of the wrong type; nothing was written.
            StackUnavailable: Redis is down or slow.
            RedisRefused: Redis is full, read-only, or forbids it.
            CorruptData: the stored event time of an entity is not a timestamp; names view and entity.
        """
        return self.write_encoded(layout, encode_rows(layout, table, self._project))

    def write_encoded(self, layout: ViewLayout, rows: EncodedRows) -> WriteResult:
        """Write rows that are encoded already."""
        calls = self._calls(layout, rows)
        result = WriteResult(0, 0)
        for start in range(0, len(calls), _CALLS_PER_ROUND_TRIP):
            batch = calls[start : start + _CALLS_PER_ROUND_TRIP]
            replies = send(self._client, [call.command for call in batch])
            lost = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if lost:
                self._client.script_load(SCRIPT)
                again = send(self._client, [batch[index].command for index in lost])
                for index, reply in zip(lost, again, strict=True):
                    replies[index] = reply
            result += self._sum(layout, batch, replies)
        return result

    async def write_encoded_async(self, layout: ViewLayout, rows: EncodedRows) -> WriteResult:
        """Do what `write_encoded` does, with an asyncio client."""
        calls = self._calls(layout, rows)
        result = WriteResult(0, 0)
        for start in range(0, len(calls), _CALLS_PER_ROUND_TRIP):
            batch = calls[start : start + _CALLS_PER_ROUND_TRIP]
            replies = await send_async(self._client, [call.command for call in batch])
            lost = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if lost:
                await self._client.script_load(SCRIPT)
                again = await send_async(self._client, [batch[index].command for index in lost])
                for index, reply in zip(lost, again, strict=True):
                    replies[index] = reply
            result += self._sum(layout, batch, replies)
        return result

    def _sum(self, layout: ViewLayout, calls: Sequence["_Call"], replies: Sequence[Any]) -> WriteResult:
        written = older = 0
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, Exception):
                text = str(reply)
                if text.startswith("CORRUPT "):
                    raise corrupt_time(layout.name, call.keys[int(text.split()[1]) - 1])
                raise explain(reply, self._client)
            written += int(reply)
            older += len(call.keys) - int(reply)
        return WriteResult(written, older)

    def _calls(self, layout: ViewLayout, rows: EncodedRows) -> list["_Call"]:
        head = [b"%d" % len(layout.features), self._ttl, layout.event_field, layout.created_field, *layout.fields]
        prefix = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in head)
        columns = [rows.events, rows.created, *rows.values]
        parts = [[b"$%d\r\n%b\r\n" % (len(value), value) for value in column] for column in columns]
        bodies = list(map(b"".join, zip(*parts, strict=True)))
        fixed = 3 + len(head)
        return [
            self._call(
                [rows.keys[i] for i in group],
                [bodies[i] for i in group],
                prefix,
                fixed,
                len(columns),
                rows,
                head,
                group,
            )
            for group in self._groups(rows.keys, bodies)
        ]

    def _call(
        self,
        keys: list[bytes],
        bodies: list[bytes],
        prefix: bytes,
        fixed: int,
        width: int,
        rows: EncodedRows,
        head: list[bytes],
        group: list[int],
    ) -> "_Call":
        count = b"%d" % len(keys)
        data = b"".join(
            [
                b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%b\r\n"
                % (fixed + len(keys) * (1 + width), _SHA, len(count), count),
                *(b"$%d\r\n%b\r\n" % (len(key), key) for key in keys),
                prefix,
                *bodies,
            ]
        )
        arguments: tuple[Any, ...] = ()
        if self._cluster:
            columns = [rows.events, rows.created, *rows.values]
            arguments = ("EVALSHA", _SHA, len(keys), *keys, *head, *(column[i] for i in group for column in columns))
        return _Call(Command(keys[0], data, arguments), keys)

    def _groups(self, keys: list[bytes], bodies: list[bytes]) -> list[list[int]]:
        """Split rows into calls: by hash slot on a cluster, and never so large that a call blocks readers for long."""
        order: list[int] = list(range(len(keys)))
        slots: list[int] | None = None
        if self._cluster:
            slots = [key_slot(key) for key in keys]
            order.sort(key=slots.__getitem__)
        groups: list[list[int]] = []
        size = 0
        for index in order:
            new = (
                not groups
                or len(groups[-1]) >= _ROWS_PER_CALL
                or size > _BYTES_PER_CALL
                or (slots is not None and slots[groups[-1][-1]] != slots[index])
            )
            if new:
                groups.append([])
                size = 0
            groups[-1].append(index)
            size += len(bodies[index])
        return groups


@dataclass(frozen=True, slots=True)
class _Call:
    command: Command
    keys: list[bytes]
