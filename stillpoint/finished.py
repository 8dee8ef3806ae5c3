"""The contents that a user finished lately: written by the stream, read when a list is made.

A sorted set per user in Redis (`settings.redis_serving`), newest last, bounded in number and time.
"""

from collections.abc import Sequence

from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import explain
from stillpoint.stores.redis.scripted import Script

KEPT = 50
SECONDS = 24 * 3_600

_ADD = Script("""
redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
""")
"""KEYS: a user. ARGV: time in microseconds, content id, how many are kept, seconds to live."""


def finished_key(user_id: str) -> str:
    """Return the Redis key of a user's finished contents."""
    return f"stillpoint:finished:{user_id}"


def add_finished(client: RedisClient, completions: Sequence[tuple[str, str, int]]) -> None:
    """Add (user id, content id, microseconds) completions. Repeated or older ones change nothing.

    Raises:
        StackUnavailable: Redis is away, full or failing over.
    """
    calls = [_ADD.command(finished_key(user), at_us, content, KEPT, SECONDS) for user, content, at_us in completions]
    for reply in _ADD.run(client, calls):
        if isinstance(reply, Exception):
            raise explain(reply, client)
