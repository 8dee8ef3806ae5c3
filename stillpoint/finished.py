"""The contents that a user finished lately: written by the stream, read when a list is made.

A sorted set per user in Redis (`settings.redis_serving`), newest last, bounded in number and time.
"""

from collections.abc import Sequence
from typing import Any

KEPT = 50
SECONDS = 24 * 3_600

_SCRIPT = """
redis.call('ZADD', KEYS[1], 'GT', ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""
"""KEYS: a user. ARGV: time in microseconds, content id, how many are kept, seconds to live."""


def finished_key(user_id: str) -> str:
    """Return the Redis key of a user's finished contents."""
    return f"stillpoint:finished:{user_id}"


def add_finished(client: Any, completions: Sequence[tuple[str, str, int]]) -> None:
    """Add (user id, content id, microseconds) completions. Repeated or older ones change nothing."""
    script = client.register_script(_SCRIPT)
    pipeline = client.pipeline(transaction=False)
    for user_id, content_id, at_us in completions:
        script(keys=[finished_key(user_id)], args=[at_us, content_id, KEPT, SECONDS], client=pipeline)
    if completions:
        pipeline.execute()
