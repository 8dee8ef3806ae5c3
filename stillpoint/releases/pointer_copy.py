"""A copy of the pointer in Redis answers which generation is live, exactly, without a look into the object store.

The release book is the truth; the copy lies in Redis (`settings.redis_serving`), where functions write anyway. It is believed
only on the very server process that took it, while that process is a primary, and for `TRUST_SECONDS` after the book was
looked at. A server that restarted, was restored or took over from another believes no copy that it finds. Why that is exact, and
when a switch must wait for it: `docs/adr/0072-functions-read-a-copy-of-the-pointer.md`.
"""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from stillpoint.releases.book import ReleaseBook
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import is_cluster, redis_errors

TRUST_SECONDS = 10.0
"""How long after a look at the book its answer may be believed."""
_TRUST_MS = round(TRUST_SECONDS * 1000)
_RENEW_MS = _TRUST_MS // 2
_LAST_MS = _TRUST_MS // 4
_ASKED_MS = 2_000
_TRIES = 3

TRUSTED = """
local function run_id()
    if not string.find(redis.call('INFO', 'replication'), 'role:master', 1, true) then return nil end
    return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end
local function clock()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local function trusted(key)
    local held = redis.call('HMGET', key, 'generation', 'release', 'run', 'until')
    if not held[1] or held[3] ~= run_id() then return nil end
    local left = tonumber(held[4]) - clock()
    if left <= 0 then return nil end
    return held[1], held[2], left
end
"""
"""Lua: `trusted(key)` returns generation, release and milliseconds left of a copy that may be believed, else nil."""

_READ = (
    TRUSTED
    + """
local run, now = run_id(), clock()
if not run and string.find(redis.call('INFO', 'replication'), 'role:slave', 1, true) then
    return redis.error_reply('READONLY the pointer is read on the primary')
end
local token = redis.call('HGET', KEYS[1], 'token')
if not token then
    token = ARGV[4]
    redis.call('HSET', KEYS[1], 'token', token)
end
local generation, release, left = trusted(KEYS[1])
if not generation then return {run or '', token, now} end
if left >= tonumber(ARGV[1]) then return {run, token, now, generation, release} end
local asked = redis.call('HGET', KEYS[1], 'asked')
if left >= tonumber(ARGV[2]) and asked and now - tonumber(asked) < tonumber(ARGV[3]) then
    return {run, token, now, generation, release}
end
redis.call('HSET', KEYS[1], 'asked', now)
return {run, token, now}
"""
)
"""KEYS: the copy. ARGV, in milliseconds: below how much left one reader renews it, below how much each does, how long one is
waited for; a new token. Returns run id, token, time, and the pointer unless the caller must look at the book. The token tells a
copy that was lost since from one that was there."""

_WRITE = (
    TRUSTED
    + """
local run, now = run_id(), clock()
local token = redis.call('HGET', KEYS[1], 'token')
if not run or run ~= ARGV[1] or token ~= ARGV[6] or now >= tonumber(ARGV[2]) then return {'again', 0} end
local generation = trusted(KEYS[1])
if generation and tonumber(generation) > tonumber(ARGV[3]) then return {'again', 0} end
local held = redis.call('HMGET', KEYS[1], 'run', 'since')
local since = ARGV[3] == '1' and 0 or now
if held[1] == run then since = tonumber(held[2]) end
redis.call('HSET', KEYS[1], 'generation', ARGV[3], 'release', ARGV[4], 'run', run, 'until', ARGV[2], 'since', since)
return {'taken', math.max(0, math.min(since + tonumber(ARGV[5]) - now, tonumber(ARGV[5])))}
"""
)
"""KEYS: the copy. ARGV: run id and end of belief, both from before the book was read; generation, release, milliseconds of trust; the token.
Returns whether it was taken, and how many milliseconds a copy of an earlier generation may still be believed elsewhere."""


@dataclass(frozen=True, slots=True)
class LiveGeneration:
    """The generation that is live, and its release."""

    generation: int
    release: str


def pointer_key(root: str) -> str:
    """Return the key of the copy of a lake's pointer. Two lakes on one Redis do not meet."""
    return f"stillpoint:pointer:{hashlib.sha256(root.encode()).hexdigest()[:16]}"


class PointerCopy:
    """The pointer of one book, read by way of Redis."""

    def __init__(self, client: RedisClient, book: ReleaseBook, root: str) -> None:
        """`root` is the lake's."""
        self._client = client
        self._book = book
        self.key = pointer_key(root)
        self._read = client.register_script(_READ)
        self._write = client.register_script(_WRITE)

    def live(self) -> LiveGeneration | None:
        """Return what is live: by the copy, or by the book, whose answer is then copied. None before the first release.

        Raises:
            StackUnavailable: Redis is away, or the book, where it had to be asked.
        """
        run, token, now, *held = self._look()
        if held:
            return LiveGeneration(int(held[0]), held[1].decode())
        found, _ = self._renewed(run, token, now)
        return found

    def fences(self) -> bool:
        """Say whether a script of another key can depend on the copy: on one server that tells who it is."""
        return not is_cluster(self._client) and bool(self._look()[0])

    def renew(self) -> float:
        """Copy what the book says now. Return for how many seconds a copy of an earlier generation may still be believed, on
        a server that this one has taken over from: 0 unless it did so lately.

        Raises:
            StackUnavailable: Redis or the book is away; the copy is then believed until its time has run out.
        """
        for _ in range(_TRIES):
            run, token, now, *_ = self._look()
            _, seconds = self._renewed(run, token, now)
            if seconds is not None:
                return seconds
        return TRUST_SECONDS  # the server changed each time, or tells no run id: nothing older is believed after that

    def _look(self) -> list[Any]:
        with redis_errors(self._client):
            found: list[Any] = self._read(keys=[self.key], args=[_RENEW_MS, _LAST_MS, _ASKED_MS, uuid.uuid4().hex])
        return found

    def _renewed(self, run: bytes, token: bytes, now: int) -> tuple[LiveGeneration | None, float | None]:
        """Read the book and copy its answer, bound to the server, the copy and the time of before. Return it, and the seconds of
        `renew`, or None if it was not copied."""
        pointer = self._book.live()
        if pointer is None:
            return None, 0.0
        found = LiveGeneration(pointer.generation, pointer.release)
        if not run:
            return found, None
        args: list[bytes | str | int] = [run, now + _TRUST_MS, found.generation, found.release, _TRUST_MS, token]
        with redis_errors(self._client):
            taken, left = self._write(keys=[self.key], args=args)
        return found, left / 1000 if taken == b"taken" else None
