"""Stored recommendations and push limits in Redis.

In Redis (`settings.redis_serving`): the newest recommendation per user, kind and release, and when the user was last
pushed to. The contents that a user finished lately are read from the keys that the stream writes. Each write is atomic
and idempotent.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from stillpoint.clock import to_micros
from stillpoint.errors import CorruptData
from stillpoint.finished import finished_key
from stillpoint.messages import Kind, StoredRecommendation
from stillpoint.releases.pointer_copy import TRUSTED
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.command import Command, pack
from stillpoint.stores.redis.connection import explain, redis_errors
from stillpoint.stores.redis.pipeline import FAILOVER_SECONDS, send
from stillpoint.stores.redis.scripted import Script

TTL_SECONDS = {Kind.TODAY: 24 * 3_600, Kind.SLEEP: 24 * 3_600, Kind.NEXT: 3_600}
PUSH_INTERVAL_SECONDS = 30 * 60

_STORE = Script(
    TRUSTED
    + """
if ARGV[5] and trusted(ARGV[5]) ~= ARGV[4] then return 'superseded' end
local generation = redis.call('HGET', KEYS[1], 'generation')
if generation and tonumber(generation) > tonumber(ARGV[4]) then return 'superseded' end
local held = redis.call('HGET', KEYS[1], 'order')
if held and held >= ARGV[1] then
    redis.call('HSET', KEYS[1], 'generation', ARGV[4])
    return 'older'
end
redis.call('HSET', KEYS[1], 'order', ARGV[1], 'recommendation', ARGV[2], 'generation', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 'stored'
"""
)
"""KEYS: user, kind and release. ARGV: order, recommendation, seconds to live, generation; the key of the pointer's copy where the
write depends on it, which is on one server only. Returns a `StoreResult`."""

_TAKE_BACK = Script("""
local held = redis.call('HMGET', KEYS[1], 'order', 'generation')
if held[1] == ARGV[1] and held[2] == ARGV[2] then return redis.call('DEL', KEYS[1]) end
return 0
""")
"""KEYS: user, kind and release. ARGV: order and generation of the recommendation to delete, if it is still stored."""


class StoreResult(StrEnum):
    """The outcome of storing a recommendation."""

    STORED = "stored"
    OLDER = "older"
    """A newer recommendation, or this same one, is stored already; nothing was changed."""
    SUPERSEDED = "superseded"
    """Another generation is live, or a later one has written this key; the caller ranked under a release that has ended."""


def order_of(event_timestamp: datetime, request_id: str) -> str:
    """Return a text that sorts like (event_timestamp, request_id).

    >>> from datetime import UTC, datetime
    >>> order_of(datetime(2026, 3, 1, tzinfo=UTC), "a") < order_of(datetime(2026, 3, 1, 0, 1, tzinfo=UTC), "a")
    True
    """
    return f"{to_micros(event_timestamp):020d}:{request_id}"


class Recommendations:
    """Stored recommendations over a synchronous Redis client."""

    def __init__(self, client: RedisClient, *, fence: str | None = None) -> None:
        """With `fence`, the key of the copy of the pointer, a write takes effect only while its generation is live, in one
        step. On a cluster the copy is not where a user's key is: there the caller asks before and after."""
        self._client = client
        self._fence = () if fence is None else (fence,)

    def put(self, recommendation: StoredRecommendation) -> StoreResult:
        """Store a recommendation, unless a newer one, this same one, or one of a later generation is stored already."""
        (result,) = self.put_all([recommendation])
        return result

    def put_all(self, recommendations: Sequence[StoredRecommendation]) -> list[StoreResult]:
        """Store several in one round trip, each as `put` does.

        Raises:
            StackUnavailable: Redis is away, full or failing over; some may be stored, and may be stored again.
        """
        calls = [
            _STORE.command(
                recommendation_key(one.user_id, one.kind, one.release),
                order_of(one.event_timestamp, one.request_id),
                one.to_bytes(),
                TTL_SECONDS[one.kind],
                one.generation,
                *self._fence,
            )
            for one in recommendations
        ]
        return [StoreResult(result.decode()) for result in self._replies(_STORE.run(self._client, calls))]

    def take_back(self, recommendations: Sequence[StoredRecommendation]) -> None:
        """Delete what `put_all` has just stored, unless something else is there by now."""
        calls = [
            _TAKE_BACK.command(
                recommendation_key(one.user_id, one.kind, one.release),
                order_of(one.event_timestamp, one.request_id),
                one.generation,
            )
            for one in recommendations
        ]
        self._replies(_TAKE_BACK.run(self._client, calls))

    def get(self, user_id: str, kinds: Sequence[Kind], release: str) -> list[StoredRecommendation | None]:
        """Return the stored recommendation of each kind under one release, None where there is none."""
        keys = [recommendation_key(user_id, kind, release).encode() for kind in kinds]
        commands = [Command(key, pack(b"HGET", key, b"recommendation")) for key in keys]
        return [parse(data) for data in self._replies(send(self._client, commands))]

    def forget(self, user_id: str, kind: Kind, release: str) -> None:
        """Delete the stored recommendation of one kind under one release."""
        with redis_errors(self._client):
            self._client.delete(recommendation_key(user_id, kind, release))

    def finished(self, user_ids: Sequence[str]) -> list[frozenset[str]]:
        """Return the contents that each user completed lately, in one round trip."""
        keys = [finished_key(user_id).encode() for user_id in user_ids]
        commands = [Command(key, pack(b"ZRANGE", key, b"0", b"-1")) for key in keys]
        replies = self._replies(send(self._client, commands))
        return [frozenset(member.decode() for member in members) for members in replies]

    def may_push(self, user_id: str, push_id: str) -> bool:
        """Return whether the user may be pushed to now, and start their half hour if so: one push per half hour.

        Repeating the call for the same push returns True again.
        """
        key = f"stillpoint:pushed:{user_id}".encode()
        taken = pack(b"SET", key, push_id.encode(), b"NX", b"EX", b"%d" % PUSH_INTERVAL_SECONDS)
        commands = [Command(key, taken), Command(key, pack(b"GET", key))]
        _, held = self._replies(send(self._client, commands, patience=FAILOVER_SECONDS, replicas=1))
        return held is not None and bytes(held).decode() == push_id

    def forget_push(self, user_id: str, push_id: str) -> None:
        """End the user's half hour after a push that could not be sent."""
        key = f"stillpoint:pushed:{user_id}"
        with redis_errors(self._client):
            held = self._client.get(key)
            if held is not None and held.decode() == push_id:
                self._client.delete(key)

    def _replies(self, replies: Sequence[Any]) -> Sequence[Any]:
        """Return the replies, none of which may be an error."""
        for reply in replies:
            if isinstance(reply, Exception):
                raise explain(reply, self._client)
        return replies


def recommendation_key(user_id: str, kind: Kind, release: str) -> str:
    """Return the key of a stored recommendation."""
    return f"stillpoint:rec:{user_id}:{kind}:{release}"


def parse(data: bytes | None) -> StoredRecommendation | None:
    """Return the stored recommendation in `data`, or None if there is no data.

    Raises:
        CorruptData: the bytes are not a stored recommendation.
    """
    if data is None:
        return None
    try:
        return StoredRecommendation.model_validate_json(data)
    except ValueError as error:
        raise CorruptData(f"a stored recommendation cannot be read: {error}") from None
