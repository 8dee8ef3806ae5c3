"""What each server of a Redis says of itself: one server is one shard, a cluster has one for each primary.

What is kept in Redis lies on the shards, and is lost by shard: a restart, an eviction or a policy is that of one server.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis.crc import key_slot

from stillpoint.errors import StackUnavailable, StillpointError
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.cluster import primaries
from stillpoint.stores.redis.connection import is_cluster, redis_errors, where

NO_EVICTION = "noeviction"
SLOTS = 16_384


class EvictionPossible(StillpointError):
    """Redis may drop keys by itself when its memory is full."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A server that takes writes. `run` names its process; `max_memory` 0 is no limit."""

    name: str
    run: str
    policy: str
    evicted: int
    used_memory: int
    max_memory: int


def shard_clients(client: RedisClient) -> Iterator[tuple[str, RedisClient]]:
    """Yield the name and the client of each server that takes writes, as far as is known."""
    if is_cluster(client):
        yield from primaries(client)
    else:
        yield where(client).removeprefix("Redis at "), client


def shards(client: RedisClient) -> list[Shard]:
    """Ask every shard for what it says of itself.

    Raises:
        StackUnavailable: one does not answer, or a cluster has slots that nobody owns.
    """
    with redis_errors(client):
        found = _ask(client)
        if is_cluster(client) and any(shard is None for shard in found):
            client.nodes_manager.initialize()  # a primary has become a replica: another has its slots
            found = _ask(client)
    if None in found:
        raise StackUnavailable(
            f"{where(client)} is failing over: a primary has become a replica; try again in a moment"
        )
    return [shard for shard in found if shard is not None]


def refuse_down_shards(client: RedisClient) -> None:
    """Make sure that a cluster works as a whole: every slot has an owner that answers.

    Raises:
        StackUnavailable: a shard is down; names the cluster and how many slots have no owner.
    """
    if not is_cluster(client):
        return
    try:
        with redis_errors(client):
            client.nodes_manager.initialize()
            states = [node.execute_command("CLUSTER INFO") for _, node in primaries(client)]
    except StackUnavailable as error:
        raise StackUnavailable(f"{error}; a shard is down: start its primary, or promote a replica of it") from error
    owned = sum(1 for nodes in client.nodes_manager.slots_cache.values() if nodes)
    broken = next((state for state in states if state.get("cluster_state") != "ok"), None)
    if broken is not None or owned < SLOTS:
        working = owned if broken is None else int(broken.get("cluster_slots_ok", 0))
        raise StackUnavailable(
            f"{where(client)} is down: {SLOTS - working} of {SLOTS} slots have no primary that answers; start the shard "
            "that is missing, or promote a replica of it"
        )


def refuse_eviction(client: RedisClient, what: str) -> list[Shard]:
    """Make sure that no shard drops keys by itself; `what` says what would be lost. Return the shards.

    Asks INFO, not CONFIG, which managed Redis forbids.

    Raises:
        EvictionPossible: a shard has another `maxmemory-policy`; says how to set it.
        StackUnavailable: a shard does not answer.
    """
    refuse_down_shards(client)
    found = shards(client)
    for shard in found:
        if shard.policy != NO_EVICTION:
            raise EvictionPossible(
                f"Redis at {shard.name} has maxmemory-policy {shard.policy}, under which it silently drops {what} when its "
                f"memory is full; expected {NO_EVICTION}: `redis-cli -p {shard.name.rpartition(':')[2]} CONFIG SET "
                f"maxmemory-policy {NO_EVICTION}`, in redis.conf too, or in the parameter group of a managed Redis"
            )
    return found


def _ask(client: RedisClient) -> list[Shard | None]:
    return [_shard(name, node.info()) for name, node in shard_clients(client)]


def _shard(name: str, info: dict[str, Any]) -> Shard | None:
    """Return a shard from the answer to INFO; None for a replica."""
    if info.get("role", "master") != "master":
        return None
    return Shard(
        name=name,
        run=str(info.get("run_id", "")),
        policy=str(info.get("maxmemory_policy", NO_EVICTION)),
        evicted=int(info.get("evicted_keys", 0)),
        used_memory=int(info.get("used_memory", 0)),
        max_memory=int(info.get("maxmemory", 0)),
    )


def shard_of(client: RedisClient, key: bytes) -> str:
    """Return the name of the server that owns a key, as far as is known."""
    if not is_cluster(client):
        return next(name for name, _ in shard_clients(client))
    nodes = client.nodes_manager.slots_cache.get(key_slot(key))
    return str(nodes[0].name) if nodes else "nowhere"
