"""Many prepared commands are sent in one round trip, to one Redis or to the nodes of a cluster.

redis-py packs every argument of every command in Python, which is most of the cost of a feature read. Here a command is
bytes already; redis-py still owns the connections (TLS, ACL, pools, topology of a cluster).
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis.exceptions import (
    ConnectionError,  # noqa: A004
    ReadOnlyError,
    TimeoutError,  # noqa: A004
)

from stillpoint.stores.redis.client import AnyRedis
from stillpoint.stores.redis.cluster import OURS, send_to_cluster, send_to_cluster_async
from stillpoint.stores.redis.command import Command
from stillpoint.stores.redis.connection import is_cluster, redis_errors
from stillpoint.stores.redis.exchange import exchange, exchange_async

READ_SECONDS = 1.0
"""How long a read follows a cluster or a Sentinel that is changing; whoever asked would not wait longer."""
FAILOVER_SECONDS = 30.0
"""How long a write does: a failover takes the node timeout and an election."""
_SENTINEL_PAUSE = 0.25
_SENTINELS = (redis.sentinel.SentinelConnectionPool, redis.asyncio.sentinel.SentinelConnectionPool)


def send(
    client: AnyRedis, commands: Sequence[Command], *, patience: float = READ_SECONDS, replicas: int = 0
) -> list[Any]:
    """Send all commands and return their replies in order; an error reply is returned, not raised.

    Commands that may come twice only: after a lost connection they are sent again. On a cluster and behind Sentinels
    the new primary is looked for, for `patience` seconds. On a cluster the answers of a primary that has replicas come
    only when so many `replicas` have the writes, so that a failover does not lose them; a replica that does not answer
    is not waited for longer than a second.

    Raises:
        StackUnavailable: Redis cannot be reached or does not answer in time.
    """
    if not commands:
        return []
    with redis_errors(client):
        if is_cluster(client):
            return send_to_cluster(client, commands, patience=patience, replicas=replicas)
        deadline = time.monotonic() + (patience if isinstance(client.connection_pool, _SENTINELS) else 0.0)
        while True:
            try:
                replies = exchange(client.connection_pool, commands)
            except OURS:
                raise
            except (ConnectionError, TimeoutError):
                if time.monotonic() >= deadline:
                    raise
            else:
                if time.monotonic() >= deadline or not any(isinstance(reply, ReadOnlyError) for reply in replies):
                    return replies
                client.connection_pool.disconnect()  # the primary has become a replica: the Sentinels are asked again
            time.sleep(_SENTINEL_PAUSE)


async def send_async(
    client: AnyRedis, commands: Sequence[Command], *, patience: float = READ_SECONDS, replicas: int = 0
) -> list[Any]:
    """Do what `send` does, on the running event loop."""
    if not commands:
        return []
    with redis_errors(client):
        if is_cluster(client):
            return await send_to_cluster_async(client, commands, patience=patience, replicas=replicas)
        deadline = time.monotonic() + (patience if isinstance(client.connection_pool, _SENTINELS) else 0.0)
        while True:
            try:
                replies = await exchange_async(client.connection_pool, commands)
            except OURS:
                raise
            except (ConnectionError, TimeoutError):
                if time.monotonic() >= deadline:
                    raise
            else:
                if time.monotonic() >= deadline or not any(isinstance(reply, ReadOnlyError) for reply in replies):
                    return replies
                await client.connection_pool.disconnect()
            await asyncio.sleep(_SENTINEL_PAUSE)
