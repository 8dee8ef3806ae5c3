"""Builds the calls of the Lua script that compares and writes many entities, each atomically.

A call is bytes: a head, then slices of the encoded rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from redis.crc import key_slot

from stillpoint.stores.redis.command import Command
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.scripted import Script

Ints = npt.NDArray[np.int64]

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
    elseif order == 0 and old_created and string.sub(old_created, 9) == old then
      if created == '' then
        wins = false
      else
        local s1, m1 = struct.unpack('<i5I3', created)
        local s2, m2 = struct.unpack('<i5I3', old_created)
        wins = s1 > s2 or (s1 == s2 and m1 >= m2)
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

ORDERED_WRITE = Script(SCRIPT)
_ROWS_PER_CALL = 128
_BYTES_PER_CALL = 256 * 1024


class PackedRows(Protocol):
    """Rows whose keys and values (event time, created time, features) are bulk strings (`$<length>\\r\\n<bytes>\\r\\n`)."""

    def __len__(self) -> int: ...

    def key(self, row: int) -> bytes:
        """Return the Redis key of a row."""

    def sizes(self) -> Ints:
        """Return the size in bytes of each row's values."""

    def ordered(self, order: Ints) -> "PackedRows":
        """Return the rows in another order."""

    def parts(self, first: int, end: int) -> tuple[Any, Any]:
        """Return the keys and the values of consecutive rows, each as one buffer."""


@dataclass(frozen=True, slots=True)
class ListedRows:
    """A few rows as lists of bytes."""

    keys: list[bytes]
    bodies: list[bytes]

    @classmethod
    def of(cls, keys: list[bytes], columns: Sequence[Sequence[bytes]]) -> "ListedRows":
        """Pack event times, created times and features, column by column."""
        parts = [[b"$%d\r\n%b\r\n" % (len(value), value) for value in column] for column in columns]
        return cls(keys, list(map(b"".join, zip(*parts, strict=True))))

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, row: int) -> bytes:
        return self.keys[row]

    def sizes(self) -> Ints:
        return np.fromiter(map(len, self.bodies), np.int64, len(self.bodies))

    def ordered(self, order: Ints) -> "ListedRows":
        places = order.tolist()
        return ListedRows([self.keys[place] for place in places], [self.bodies[place] for place in places])

    def parts(self, first: int, end: int) -> tuple[Any, Any]:
        keys = b"".join([b"$%d\r\n%b\r\n" % (len(key), key) for key in self.keys[first:end]])
        return keys, b"".join(self.bodies[first:end])


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One call of the script, and the range of rows that it writes."""

    command: Command
    rows: PackedRows
    first: int
    count: int

    def key(self, number: int) -> bytes:
        """Return the Redis key of the call's n-th row, counted from one."""
        return self.rows.key(self.first + number - 1)


def script_calls(layout: ViewLayout, rows: PackedRows, *, ttl_seconds: int, by_slot: bool) -> list[ScriptCall]:
    """Return the calls that write the rows; `by_slot` for a cluster, where all keys of a call must be in one hash slot."""
    slots: Ints | None = None
    if by_slot:
        slots = np.fromiter((key_slot(rows.key(row)) for row in range(len(rows))), np.int64, len(rows))
        order = np.argsort(slots, kind="stable")
        rows, slots = rows.ordered(order), slots[order]
    head = [b"%d" % len(layout.features), b"%d" % ttl_seconds, layout.event_field, layout.created_field, *layout.fields]
    shared = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in head)
    width = 2 + len(layout.features)
    calls = []
    for first, end in _spans(rows.sizes(), slots):
        count = b"%d" % (end - first)
        start = b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$%d\r\n%b\r\n" % (
            3 + len(head) + (end - first) * (1 + width),
            ORDERED_WRITE.digest,
            len(count),
            count,
        )
        keys, values = rows.parts(first, end)
        data = b"".join((start, keys, shared, values))
        calls.append(ScriptCall(Command(rows.key(first), data), rows, first, end - first))
    return calls


def _spans(sizes: Ints, slots: Ints | None) -> list[tuple[int, int]]:
    """Split rows into calls: by hash slot if given, and small enough that no call blocks readers for long."""
    ends = np.cumsum(sizes)
    spans, first = [], 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        full = int(np.searchsorted(ends, before + _BYTES_PER_CALL, side="right"))
        end = min(first + _ROWS_PER_CALL, max(first + 1, full))
        if slots is not None:
            end = min(end, int(np.searchsorted(slots, slots[first], side="right")))
        spans.append((first, end))
        first = end
    return spans
