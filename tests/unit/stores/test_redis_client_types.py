"""The types of Redis clients promise only what redis-py's clients have."""

import inspect
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline, PubSub
from redis.commands.core import Script

from stillpoint.stores.redis.client import (
    AsyncRedisClient,
    ClusterClient,
    RedisClient,
    RedisPipeline,
    RedisScript,
    RedisSubscription,
)

PROMISED = [
    (RedisClient, redis.Redis),
    (RedisPipeline, Pipeline),
    (RedisPipeline, AsyncPipeline),
    (RedisScript, Script),
    (RedisSubscription, PubSub),
    (AsyncRedisClient, redis.asyncio.Redis),
]
ELSEWHERE = {"connection_pool", "nodes_manager"}
"""Attributes of an instance, not of its class."""


def members(protocol: type[Any]) -> list[str]:
    return [name for name in vars(protocol) if name == "__call__" or not name.startswith("_")]


@pytest.mark.parametrize(("protocol", "real"), PROMISED)
def test_every_promised_command_is_one_of_the_client_with_these_parameters(
    protocol: type[Any], real: type[Any]
) -> None:
    for name in set(members(protocol)) - ELSEWHERE:
        found = inspect.signature(getattr(real, name)).parameters
        anything = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in found.values())
        for promised in inspect.signature(getattr(protocol, name)).parameters.values():
            if promised.kind is inspect.Parameter.KEYWORD_ONLY:
                assert promised.name in found or anything, f"{real.__name__}.{name}: {promised.name}"


@pytest.mark.parametrize(
    ("real", "missing"),
    [(redis.RedisCluster, {"initialize"}), (redis.asyncio.RedisCluster, {"get_redis_connection"})],
)
def test_each_client_of_a_cluster_has_what_sending_by_it_needs(real: type[Any], missing: set[str]) -> None:
    assert {name for name in members(ClusterClient) if not hasattr(real, name)} - ELSEWHERE == missing


def test_a_client_of_a_cluster_has_every_command_of_one_server() -> None:
    missing = [name for name in members(RedisClient) if not hasattr(redis.RedisCluster, name)]
    assert set(missing) <= ELSEWHERE
