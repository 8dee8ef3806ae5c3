"""The states of the stream in Redis, kept so that a replayed batch starts from the same state.

In Redis, per query and user (and per key of each view whose keys belong to no single user): the state after the last batch
and the one before it, written in one step under the lease's epoch. A replay of a batch starts from `before`; a writer of an older epoch is refused. Markers on each shard
(`ingestion.state_markers`) say up to which batch all states are there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestion.state_markers import marker_keys
from ingestion.view_states import ViewStates
from stillpoint.errors import Fenced, StackUnavailable
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.cluster import slot_ranges
from stillpoint.stores.redis.command import Command, pack
from stillpoint.stores.redis.connection import explain, is_cluster, redis_errors
from stillpoint.stores.redis.pipeline import send
from stillpoint.stores.redis.scripted import Script
from stillpoint.stores.redis.shards import Shard, shard_of, shards

_SAVE = Script("""
local held = redis.call('HMGET', KEYS[1], 'epoch', 'batch')
if held[1] and tonumber(held[1]) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'batch', ARGV[2], 'before', ARGV[3], 'after', ARGV[4])
redis.call('PEXPIREAT', KEYS[1], ARGV[5])
for field = 6, #ARGV do redis.call('HDEL', KEYS[1], ARGV[field]) end
return 1
""")
"""KEYS: a state. ARGV: epoch, batch, state before, state after, when both may be dropped (milliseconds since 1970), and
fields that are in both states by now."""

_HAND_OVER = Script("""
local held = redis.call('HGET', KEYS[1], 'epoch')
if held and tonumber(held) > tonumber(ARGV[1]) then return 0 end
local left = redis.call('PTTL', KEYS[1])
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
if left < 0 or now[1] * 1000 + now[2] / 1000 + left < tonumber(ARGV[4]) then
  redis.call('PEXPIREAT', KEYS[1], ARGV[4])
end
return 1
""")
"""KEYS: a user's state, which may be absent. ARGV: epoch, field, section, when it may be dropped (milliseconds since 1970)."""

_MARK = Script("""
local held = redis.call('GET', KEYS[1])
if ARGV[2] ~= '' and (not held or tonumber(held) < tonumber(ARGV[2])) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
""")
"""KEYS: a marker. ARGV: batch, the batch that it must have reached already (empty: none)."""

_AT_ONCE = 1_000

USERS = "user"
"""The space of the users' states; each view of other keys has a space of its own."""


class StatesLost(StackUnavailable):
    """Redis has lost some or all of the stream's states: nothing may be computed before they are rebuilt."""


@dataclass(frozen=True, slots=True)
class Change:
    """One state before and after a batch. From `expires_us` on, an unknown one would be treated in the same way."""

    before: bytes
    after: bytes
    expires_us: int


class StateStore:
    """The states of one query's users, on one server or the shards of a cluster."""

    def __init__(self, client: RedisClient, query: str) -> None:
        self._client = client
        self._query = query

    def shards(self) -> list[Shard]:
        """Return what each shard says of itself."""
        return shards(self._client)

    def instance(self) -> str:
        """Return what names this run of every shard; it changes when one restarts, fails over or drops keys by itself."""
        return instance_of(self.shards())

    def load(
        self,
        names: Sequence[str],
        batch: int,
        *,
        instance: str,
        space: str = USERS,
        joined: Sequence[str] = (),
        take_in: Callable[[bytes, dict[str, bytes]], bytes] = lambda state, joined: state,
    ) -> dict[str, bytes]:
        """Return each state of a space as it was before `batch`; empty bytes for an unknown one.

        `joined` are fields that may lie beside a state; what is found there by field is taken into it by `take_in`.

        Raises:
            Fenced: a later batch is stored already, by another process that has taken over.
            StatesLost: a shard restarted or failed over since `instance` was asked for, so an unknown state may be lost.
        """
        states: dict[str, bytes] = {}
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            keys = [self._key(space, name) for name in part]
            fields = [b"batch", b"before", b"after", *(field.encode() for field in joined)]
            replies = self._send([Command(key, pack(b"HMGET", key, *fields)) for key in keys])
            for name, (stored, before, after, *beside) in zip(part, replies, strict=True):
                if stored is None or int(stored) < batch:
                    states[name] = after or b""
                elif int(stored) == batch:
                    states[name] = before or b""
                else:
                    raise Fenced(
                        f"query {self._query}: batch {int(stored)} is stored already and this is batch {batch}; stopping"
                    )
                handed = {field: data for field, data in zip(joined, beside, strict=True) if data is not None}
                if handed:
                    states[name] = take_in(states[name], handed)
        self.require(instance)
        return states

    def require(self, instance: str) -> None:
        """Make sure that no shard has restarted, failed over or dropped keys since `instance` was asked for.

        Raises:
            StatesLost: one has.
        """
        if self.instance() != instance:
            raise StatesLost(
                f"query {self._query}: Redis restarted or failed over during a micro-batch, which is done again"
            )

    def save(
        self,
        changes: Mapping[str, Change],
        *,
        batch: int,
        epoch: int,
        space: str = USERS,
        taken_in: Sequence[str] = (),
    ) -> None:
        """Store the states around a batch. Repeating it changes nothing. Fields `taken_in` by `load` are deleted.

        Raises:
            Fenced: a newer epoch has written one of these states.
        """
        items = list(changes.items())
        for start in range(0, len(items), _AT_ONCE):
            calls = [
                _SAVE.command(
                    self._key(space, name),
                    epoch,
                    batch,
                    change.before,
                    change.after,
                    change.expires_us // 1_000 + 1,
                    *taken_in,
                )
                for name, change in items[start : start + _AT_ONCE]
            ]
            if not all(self._checked(_SAVE.run(self._client, calls))):
                raise Fenced(f"query {self._query}: a newer run than epoch {epoch} has written; this process must stop")

    def mark(self, batch: int, *, after: int | None = None) -> None:
        """Record on every shard that all states up to `batch` are stored.

        Raises:
            StatesLost: a shard has not the marker of batch `after`: it lacks states that were stored.
        """
        calls = [_MARK.command(key, batch, "" if after is None else after) for key in self._markers()]
        if not all(self._checked(_MARK.run(self._client, calls))):
            raise StatesLost(f"query {self._query}: a shard of Redis has lost states up to batch {after}")

    def unmark(self) -> None:
        """Forget the markers: the states have to be rebuilt."""
        self._send([Command(key, pack(b"DEL", key)) for key in self._markers()])

    def marked(self) -> int | None:
        """Return the newest batch whose states are all stored on every shard; None if a shard knows nothing of the query."""
        values = self._send([Command(key, pack(b"GET", key)) for key in self._markers()])
        return None if None in values else min(int(value) for value in values)

    def dropped(self) -> list[Shard]:
        """Return the shards that have dropped keys by themselves since the states were last known to be whole."""
        return self.dropped_of(self.shards())

    def dropped_of(self, found: Sequence[Shard]) -> list[Shard]:
        """Do what `dropped` does for shards that have been asked already."""
        if not any(shard.evicted for shard in found):
            return []
        (listed,) = self._send([Command(self._evicted, pack(b"HGETALL", self._evicted))])
        flat = [part for pair in listed.items() for part in pair] if isinstance(listed, dict) else listed
        known = {run.decode(): int(count) for run, count in zip(flat[::2], flat[1::2], strict=True)}
        return [shard for shard in found if shard.evicted > known.get(shard.run, 0)]

    def accept_dropped(self, found: Sequence[Shard]) -> None:
        """Remember how many keys each of these shards had dropped when the states were whole."""
        pairs = [part for one in found for part in (one.run.encode(), b"%d" % one.evicted)]
        key = self._evicted
        self._send([Command(key, pack(b"DEL", key)), Command(key, pack(b"HSET", key, *pairs))])

    def absent(self, users: Sequence[str]) -> dict[str, str]:
        """Return which of these users have no state, each with the name of the shard that should have it."""
        found: dict[str, str] = {}
        for start in range(0, len(users), _AT_ONCE):
            part = users[start : start + _AT_ONCE]
            keys = [self._key(USERS, user) for user in part]
            replies = self._send([Command(key, pack(b"EXISTS", key)) for key in keys])
            lacking = [(user, key) for user, key, there in zip(part, keys, replies, strict=True) if not there]
            found |= {user: shard_of(self._client, key) for user, key in lacking}
        return found

    def _send(self, commands: Sequence[Command]) -> Sequence[Any]:
        return self._checked(send(self._client, commands))

    def _checked(self, replies: Sequence[Any]) -> Sequence[Any]:
        for reply in replies:
            if isinstance(reply, Exception):
                raise explain(reply, self._client)
        return replies

    def _markers(self) -> list[bytes]:
        if not is_cluster(self._client):
            return marker_keys(self._query, None)
        with redis_errors(self._client):
            return marker_keys(self._query, slot_ranges(self._client))

    def views(self) -> ViewStates | None:
        """Return which views' memory all states have, or None if that was never noted."""
        value = self._client.get(self._sections)
        return None if value is None else ViewStates.from_json(value)

    def note_views(self, views: ViewStates) -> None:
        """Record which views' memory all states have."""
        self._client.set(self._sections, views.to_json())

    def hand_over(self, sections: Mapping[str, tuple[bytes, int]], field: str, *, epoch: int) -> None:
        """Put a view's section beside each user's state, to be taken into it when the user's next events come.

        `sections` are by user, each with the arrival time from which on it may be dropped.

        Raises:
            Fenced: a newer epoch has written one of these users.
        """
        items = list(sections.items())
        for start in range(0, len(items), _AT_ONCE):
            calls = [
                _HAND_OVER.command(self._key(USERS, user), epoch, field, data, expires_us // 1_000 + 1)
                for user, (data, expires_us) in items[start : start + _AT_ONCE]
            ]
            if not all(self._checked(_HAND_OVER.run(self._client, calls))):
                raise Fenced(f"query {self._query}: a newer run than epoch {epoch} has written; this process must stop")

    def handed_over(self, users: Sequence[str], field: str) -> dict[str, bytes]:
        """Return what `hand_over` put beside the states of these users."""
        found: dict[str, bytes] = {}
        for start in range(0, len(users), _AT_ONCE):
            part = users[start : start + _AT_ONCE]
            keys = [self._key(USERS, user) for user in part]
            replies = self._send([Command(key, pack(b"HGET", key, field.encode())) for key in keys])
            found |= {user: data for user, data in zip(part, replies, strict=True) if data is not None}
        return found

    @property
    def _sections(self) -> str:
        return f"stillpoint:state:{self._query}:sections"

    @property
    def _evicted(self) -> bytes:
        return f"stillpoint:state:{self._query}:evicted".encode()

    def _key(self, space: str, name: str) -> bytes:
        return f"stillpoint:state:{self._query}:{space}:{name}".encode()


def instance_of(found: Sequence[Shard]) -> str:
    """Return what names this run of these shards."""
    return ",".join(sorted(f"{shard.run}:{shard.evicted}" for shard in found))
