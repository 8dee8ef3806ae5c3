"""Reads everything that one user's request needs from Redis, on the event loop and within a bounded time."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from inference.live.loaded_release import LoadedRelease
from inference.predictions.stored_recommendations import parse, recommendation_key
from stillpoint.clock import to_micros
from stillpoint.errors import CorruptData, StackUnavailable
from stillpoint.finished import finished_key
from stillpoint.messages import Kind, StoredRecommendation
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.reader import AsyncOnlineReader
from stillpoint.stores.redis.client import AsyncRedisClient
from stillpoint.stores.redis.command import Command, pack
from stillpoint.stores.redis.pipeline import send_async

STORE_SECONDS = 1.0
"""How long a recommendation waits for Redis before popular contents are answered instead."""

MakeReader = Callable[[LoadedRelease], AsyncOnlineReader]


class UserStore:
    """Reads features from a release's colour, recommendations and finished contents from `redis_serving`."""

    def __init__(self, redis: AsyncRedisClient, make_reader: MakeReader) -> None:
        self._redis = redis
        self._make_reader = make_reader
        self._readers: dict[tuple[str, int], AsyncOnlineReader] = {}

    def reader(self, loaded: LoadedRelease) -> AsyncOnlineReader:
        """Return the reader of a release; the readers of the last two releases are cached."""
        key = (loaded.id, loaded.generation)
        if key not in self._readers:
            self._readers = dict(list(self._readers.items())[-1:])
            self._readers[key] = self._make_reader(loaded)
        return self._readers[key]

    async def features(self, loaded: LoadedRelease, user_id: str, at: datetime) -> tuple[OnlineColumns, frozenset[str]]:
        """Return the user's features as of `at`, and the ids of the contents that they finished lately.

        Raises:
            StackUnavailable: Redis is away, or slower than `STORE_SECONDS`.
        """
        reading = self.reader(loaded).read(loaded.users.names, {"user_id": [user_id]}, now_us=to_micros(at))
        try:
            async with asyncio.timeout(STORE_SECONDS):
                columns, (members,) = await asyncio.gather(reading, send_async(self._redis, [_finished(user_id)]))
        except TimeoutError:
            raise StackUnavailable(f"Redis gave no features within {STORE_SECONDS:g} s") from None
        return columns, _ids(members)

    async def stored(
        self, loaded: LoadedRelease, user_id: str, kinds: Sequence[Kind]
    ) -> tuple[dict[Kind, StoredRecommendation], frozenset[str]]:
        """Return the stored recommendations of the release's id mapping by kind, and the ids of contents finished lately.

        A kind without a readable recommendation is left out.

        Raises:
            StackUnavailable: Redis is away, or slower than `STORE_SECONDS`.
        """
        keys = [recommendation_key(user_id, kind, loaded.id).encode() for kind in kinds]
        commands = [Command(key, pack(b"HGET", key, b"recommendation")) for key in keys]
        try:
            async with asyncio.timeout(STORE_SECONDS):
                *replies, members = await send_async(self._redis, [*commands, _finished(user_id)])
        except TimeoutError:
            raise StackUnavailable(f"Redis gave no recommendation within {STORE_SECONDS:g} s") from None
        found: dict[Kind, StoredRecommendation] = {}
        for kind, reply in zip(kinds, replies, strict=True):
            try:
                held = parse(reply) if isinstance(reply, bytes) else None
            except CorruptData:
                continue
            if held is not None and held.mapping_version == loaded.release.mapping_version:
                found[kind] = held
        return found, _ids(members)


def _finished(user_id: str) -> Command:
    key = finished_key(user_id).encode()
    return Command(key, pack(b"ZRANGE", key, b"0", b"-1"))


def _ids(members: Any) -> frozenset[str]:
    return frozenset(member.decode() for member in members) if isinstance(members, list) else frozenset()
