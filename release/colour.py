"""Empties, measures and marks a colour's Redis."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from stillpoint.errors import ReleaseRefused
from stillpoint.stores.reading.plan import ReadPlan, fill_marker_key
from stillpoint.stores.reading.types import FillMarker
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import redis_errors
from stillpoint.stores.redis.deletion import delete_project, project_keys
from stillpoint.stores.redis.layout import parse_key
from stillpoint.stores.redis.shards import EvictionPossible, refuse_eviction

SAMPLE = 200


def empty(client: RedisClient, project: str) -> int:
    """Remove the fill marker first, then every entity of exactly this project; return how many there were."""
    with redis_errors(client):
        client.unlink(fill_marker_key(project))
    return delete_project(client, project)


def mark(client: RedisClient, project: str, *, mapping_version: int, fill_complete: bool) -> None:
    """Write the project's fill marker, which every read of features returns with them."""
    with redis_errors(client):
        client.hset(
            fill_marker_key(project),
            mapping={"mapping_version": str(mapping_version), "fill_complete": "1" if fill_complete else "0"},
        )


def fill_marker(client: RedisClient, project: str) -> FillMarker:
    """Return the project's fill marker; without one, no mapping and not complete."""
    with redis_errors(client):
        version, complete = client.hmget(fill_marker_key(project), "mapping_version", "fill_complete")
    return FillMarker.parse(version, complete)


def entity_ids(client: RedisClient, project: str, join_key: str) -> Iterator[str]:
    """Yield the ids of all entities of one join key, in no order."""
    for key in project_keys(client, project, [join_key]):
        parsed = parse_key(key)
        if parsed is not None:
            yield parsed[1][0][1].decode()


@dataclass(frozen=True, slots=True)
class ColourContents:
    """Entities by join key, entities by view, and the mean bytes of one user's hash (sampled; None if there is none)."""

    entities: dict[str, int]
    per_view: dict[str, int]
    bytes_per_user: float | None


def contents(client: RedisClient, plan: ReadPlan) -> ColourContents:
    """Count what a project holds. Scans the server, 500 keys a round trip."""
    entities: Counter[str] = Counter()
    per_view: Counter[str] = Counter({view.name: 0 for view in plan.views})
    sampled: list[int] = []
    keys = project_keys(client, plan.project)
    while batch := list(islice(keys, 500)):
        with redis_errors(client):
            pipeline = client.pipeline(transaction=False)
            kinds = []
            for key in batch:
                parsed = parse_key(key)
                names = parsed[0] if parsed else ()
                views = [v for v in plan.views if tuple(c.name for c in v.sorted_join_keys) == names]
                kinds.append((names, views))
                if views:
                    pipeline.hmget(key, *[view.event_field for view in views])
                else:
                    pipeline.hlen(key)
            replies = pipeline.execute()
            for (names, views), reply in zip(kinds, replies, strict=True):
                entities[",".join(names)] += 1
                if views:
                    per_view.update(view.name for view, stamp in zip(views, reply, strict=True) if stamp is not None)
            if len(sampled) < SAMPLE:
                users = [key for key, (names, _) in zip(batch, kinds, strict=True) if names == ("user_id",)]
                pipeline = client.pipeline(transaction=False)
                for key in users[: SAMPLE - len(sampled)]:
                    pipeline.memory_usage(key)
                sampled += [size for size in pipeline.execute() if size]
    return ColourContents(dict(entities), dict(per_view), sum(sampled) / len(sampled) if sampled else None)


def refuse_full_memory(client: RedisClient, *, needed_bytes: float) -> None:
    """Make sure that a fill cannot evict what the live colour holds, and fits; the shards of a cluster share it evenly.

    Raises:
        ReleaseRefused: a shard would evict keys, or has less room than its part of the live colour takes.
    """
    try:
        shards = refuse_eviction(client, "features that are live")
    except EvictionPossible as error:
        raise ReleaseRefused(str(error)) from error
    needed = needed_bytes / len(shards)
    for shard in shards:
        if shard.max_memory and shard.used_memory + needed > shard.max_memory:
            raise ReleaseRefused(
                f"Redis at {shard.name} uses {shard.used_memory / 1e6:.1f} MB of {shard.max_memory / 1e6:.1f} MB and the "
                f"fill needs about {needed / 1e6:.1f} MB; raise maxmemory, or retire a release"
            )
