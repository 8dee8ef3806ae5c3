"""Redis clients from Feast's connection string, for one server, Sentinels or a cluster.

`host:port[,host:port…][,name=value…]`: several addresses mean Redis Cluster, and so does one whose server says that it is
part of a cluster (a configuration endpoint); `sentinel=NAME` means that the addresses are Sentinels of the primary NAME.
Values are read as JSON where they can be (`db=0`, `ssl=true`), the rest is redis-py's own vocabulary (`username`,
`password`, `ssl_ca_certs`, `socket_timeout`…).
"""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeGuard

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from stillpoint.errors import InvalidSettings, StackUnavailable, StillpointError
from stillpoint.outage_table import REDIS_ERRORS
from stillpoint.outages import outage
from stillpoint.stores.redis.client import AnyRedis, AsyncRedisClient, ClusterClient, RedisClient

SOCKET_TIMEOUT = 5.0
CONNECT_TIMEOUT = 2.0
UNREACHABLE = REDIS_ERRORS["ConnectionError"]


class Topology(StrEnum):
    """Feast's names for the ways to run Redis."""

    SINGLE = "redis"
    CLUSTER = "redis_cluster"
    SENTINEL = "redis_sentinel"


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed connection string. `options` may hold a password: never print it."""

    nodes: tuple[tuple[str, int], ...]
    options: dict[str, Any] = field(repr=False)
    sentinel: str | None = None

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self.nodes)


class RedisRefused(StillpointError):
    """Redis refused the command itself, for example because its key holds another kind of value."""


def parse_connection_string(text: str) -> Address:
    """Parse Feast's connection string.

    Raises:
        InvalidSettings: no address, or a port that is no number; the text holds no password.
    """
    nodes: list[tuple[str, int]] = []
    options: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if equals:
            try:
                options[name] = json.loads(value)
            except ValueError:
                options[name] = value
            if name in ("username", "password"):
                options[name] = value  # a password may look like a number
        elif name:
            host, colon, port = name.rpartition(":")
            if not colon or not port.isdigit():
                raise InvalidSettings(
                    f"Redis address {name!r} is not host:port; a connection string looks like "
                    "`127.0.0.1:6379,db=0,ssl=true,password=…`"
                )
            nodes.append((host.strip("[]"), int(port)))
    if not nodes:
        raise InvalidSettings("a Redis connection string needs at least one host:port")
    sentinel = options.pop("sentinel", None)
    return Address(tuple(nodes), options, None if sentinel is None else str(sentinel))


def connect(text: str, *, topology: Topology | None = None, sentinel_master: str = "mymaster") -> RedisClient:
    """Return a client for a connection string: `redis.Redis` or `redis.RedisCluster`.

    A single address is asked whether it belongs to a cluster; one that does not answer now is taken for one server. Timeouts are 5 s for an answer and 2 s to connect unless the string says otherwise; a lost connection
    is retried once.

    Raises:
        StackUnavailable: no node of a cluster answers.
    """
    client: RedisClient = _build(text, topology, sentinel_master, redis)
    return client


def connect_async(
    text: str, *, topology: Topology | None = None, sentinel_master: str = "mymaster"
) -> AsyncRedisClient:
    """Return an asyncio client for a connection string, as `connect` does. It belongs to the running event loop."""
    client: AsyncRedisClient = _build(text, topology, sentinel_master, redis.asyncio)
    return client


def _build(text: str, topology: Topology | None, sentinel_master: str, package: Any) -> Any:
    address = parse_connection_string(text)
    if address.sentinel is not None:
        topology, sentinel_master = Topology.SENTINEL, address.sentinel
    if topology is None:
        topology = Topology.CLUSTER if len(address.nodes) > 1 else Topology.SINGLE
    if topology is Topology.SINGLE and _is_endpoint(address):
        topology = Topology.CLUSTER
    asynchronous = package is redis.asyncio
    retry = redis.asyncio.retry.Retry(NoBackoff(), 1) if asynchronous else Retry(NoBackoff(), 1)
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry": retry,
        **address.options,
    }
    with redis_errors(address):
        if topology is Topology.CLUSTER:
            options.pop("retry")
            options.pop("db", None)
            node = package.cluster.ClusterNode
            return package.RedisCluster(startup_nodes=[node(host, port) for host, port in address.nodes], **options)
        if topology is Topology.SENTINEL:
            sentinel = (redis.asyncio.sentinel if asynchronous else redis.sentinel).Sentinel(
                list(address.nodes), sentinel_kwargs=_of_sentinels(options), **options
            )
            return sentinel.master_for(sentinel_master)
        host, port = address.nodes[0]
        return package.Redis(host=host, port=port, **options)


def _is_endpoint(address: Address) -> bool:
    """Say whether the server at a single address belongs to a cluster; False if it cannot be asked."""
    host, port = address.nodes[0]
    options = {"socket_timeout": SOCKET_TIMEOUT, "socket_connect_timeout": CONNECT_TIMEOUT, **address.options}
    with suppress(RedisError, OSError), closing(redis.Redis(host=host, port=port, **options)) as client:
        return bool(client.info("cluster").get("cluster_enabled"))
    return False


def _of_sentinels(options: dict[str, Any]) -> dict[str, Any]:
    """Return what of the options holds for connections to the Sentinels too: all but database, user and password."""
    return {name: value for name, value in options.items() if name.startswith(("socket_", "ssl"))}


def where(client: AnyRedis) -> str:
    """Return the address of a client, without its password."""
    if is_cluster(client):
        nodes = client.get_nodes()
        return "Redis Cluster at " + ",".join(f"{node.host}:{node.port}" for node in nodes)
    options = client.connection_pool.connection_kwargs
    return f"Redis at {options.get('host', options.get('path', 'a sentinel'))}:{options.get('port', '')}"


def is_cluster(client: AnyRedis) -> TypeGuard[ClusterClient]:
    return isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster))


@contextmanager
def redis_errors(target: AnyRedis | Address) -> Iterator[None]:
    """Turn redis-py's errors into Stillpoint's, which name the Redis, its answer, and what to do.

    Raises:
        StackUnavailable: Redis is down, unreachable, full, read-only, or refuses the login: see `stillpoint.outages`.
        RedisRefused: Redis answered that the command itself is invalid.
    """
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        raise explain(error, target) from error


def explain(error: Exception, target: AnyRedis | Address) -> StillpointError:
    """Return the Stillpoint error for an error of redis-py."""
    place = f"Redis at {target}" if isinstance(target, Address) else where(target)
    found = outage(error)
    if found is None:
        return RedisRefused(f"{place} refused the command: {error}")
    why = found.why if found.server == "Redis" else UNREACHABLE
    return StackUnavailable(f"{place} {why} ({error})")
