"""Deletes a project's keys without ever touching another project's.

Redis can only be scanned by pattern, and one project's name may be the end of another's (`green`, `shadow_green`). So every
scanned key is parsed, and deleted only if its project is exactly the given one.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.command import Command, pack
from stillpoint.stores.redis.connection import explain, redis_errors
from stillpoint.stores.redis.layout import ViewLayout, key_prefix, parse_key
from stillpoint.stores.redis.pipeline import FAILOVER_SECONDS, send

_FORGET_VIEW = b"""
redis.call('HDEL', KEYS[1], unpack(ARGV))
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 4) == '_ts:' then return 0 end
end
return redis.call('UNLINK', KEYS[1])
"""
_BATCH = 500


def project_keys(client: RedisClient, project: str, join_keys: Sequence[str] | None = None) -> Iterator[bytes]:
    """Yield the keys of exactly this project, of all entities or of those with these join keys."""
    suffix = project.encode()
    start = b"" if join_keys is None else key_prefix(join_keys)
    names = None if join_keys is None else tuple(sorted(join_keys))
    with redis_errors(client):
        for key in client.scan_iter(match=_escape(start) + b"*" + _escape(suffix), count=1000):
            parsed = parse_key(key)
            if parsed is not None and parsed[2] == suffix and names in (None, parsed[0]):
                yield key


def keys_with(
    client: RedisClient, project: str, join_keys: Sequence[str], name: str, wanted: Collection[str]
) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Yield the keys of entities with several join keys of which `name` has one of the `wanted` values, each with its values.

    The whole project is scanned: Redis has no other way to find the pairs of a user.
    """
    for key in project_keys(client, project, join_keys):
        parsed = parse_key(key)
        if parsed is not None:
            values = {one: raw.decode(errors="replace") for one, (_, raw) in zip(parsed[0], parsed[1], strict=True)}
            if values[name] in wanted:
                yield key, values


def delete_project(client: RedisClient, project: str, join_keys: Sequence[str] | None = None) -> int:
    """Unlink every entity of exactly this project (or those with these join keys), and return how many there were."""
    return _each(client, project_keys(client, project, join_keys), lambda key: (b"UNLINK", key))


def delete_view(client: RedisClient, project: str, layout: ViewLayout) -> int:
    """Delete one view's fields from every entity of exactly this project; return the number of entities examined.

    The key of an entity without any other view is deleted.
    """
    fields = (layout.event_field, layout.created_field, *layout.fields)
    keys = project_keys(client, project, [column.name for column in layout.join_keys])
    return _each(client, keys, lambda key: (b"EVAL", _FORGET_VIEW, b"1", key, *fields))


def delete_keys(client: RedisClient, keys: Sequence[bytes]) -> int:
    """Unlink these entities and return how many there were."""
    return _each(client, iter(keys), lambda key: (b"UNLINK", key))


def _each(client: RedisClient, keys: Iterator[bytes], command: Any) -> int:
    count = 0
    while batch := list(islice(keys, _BATCH)):
        commands = [Command(key, pack(*command(key))) for key in batch]
        for reply in send(client, commands, patience=FAILOVER_SECONDS, replicas=1):
            if isinstance(reply, Exception):
                raise explain(reply, client)
        count += len(batch)
    return count


def _escape(text: bytes) -> bytes:
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in text)
