"""The states of the stream's users in Redis, kept so that a replayed batch starts from the same state.

In Redis, per query and user: the state after the user's last batch and the one before it, written in one step under the
lease's epoch. A replay of a batch starts from `before`; a writer of an older epoch is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillpoint.errors import Fenced, StackUnavailable

SCRIPT = """
local held = redis.call('HMGET', KEYS[1], 'epoch', 'batch')
if held[1] and tonumber(held[1]) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'batch', ARGV[2], 'before', ARGV[3], 'after', ARGV[4])
redis.call('PEXPIREAT', KEYS[1], ARGV[5])
return 1
"""
"""KEYS: a user. ARGV: epoch, batch, state before, state after, when both may be dropped (milliseconds since 1970)."""

_PIPELINE = 1_000


class StatesLost(StackUnavailable):
    """Redis has lost some or all of the stream's states: nothing may be computed before they are rebuilt."""


@dataclass(frozen=True, slots=True)
class Change:
    """One user's states before and after a batch. From `expires_us` on, a new user would be treated in the same way."""

    before: bytes
    after: bytes
    expires_us: int


class StateStore:
    """The states of one query's users."""

    def __init__(self, client: Any, query: str) -> None:
        self._client = client
        self._query = query
        self._script = client.register_script(SCRIPT)

    def instance(self) -> str:
        """Return the server's run id, which changes when it restarts."""
        return str(self._client.info("server")["run_id"])

    def load(self, users: Sequence[str], batch: int, *, instance: str) -> dict[str, bytes]:
        """Return each user's state as it was before `batch`; empty bytes for an unknown user.

        Raises:
            Fenced: a later batch is stored already, by another process that has taken over.
            StatesLost: the server has restarted since `instance` was asked for, so an unknown user may be one whose state was lost.
        """
        states: dict[str, bytes] = {}
        for start in range(0, len(users), _PIPELINE):
            part = users[start : start + _PIPELINE]
            pipeline = self._client.pipeline(transaction=False)
            for user in part:
                pipeline.hmget(self._key(user), "batch", "before", "after")
            for user, (stored, before, after) in zip(part, pipeline.execute(), strict=True):
                if stored is None or int(stored) < batch:
                    states[user] = after or b""
                elif int(stored) == batch:
                    states[user] = before or b""
                else:
                    raise Fenced(
                        f"query {self._query}: batch {int(stored)} is stored already and this is batch {batch}; stopping"
                    )
        self.require(instance)
        return states

    def require(self, instance: str) -> None:
        """Make sure that the server has not restarted since `instance` was asked for.

        Raises:
            StatesLost: it has.
        """
        if self.instance() != instance:
            raise StatesLost(f"query {self._query}: Redis restarted during a micro-batch, which is done again")

    def save(self, changes: Mapping[str, Change], *, batch: int, epoch: int) -> None:
        """Store the states around a batch. Repeating it changes nothing.

        Raises:
            Fenced: a newer epoch has written one of these users.
        """
        items = list(changes.items())
        for start in range(0, len(items), _PIPELINE):
            pipeline = self._client.pipeline(transaction=False)
            for user, change in items[start : start + _PIPELINE]:
                arguments = [epoch, batch, change.before, change.after, change.expires_us // 1_000 + 1]
                self._script(keys=[self._key(user)], args=arguments, client=pipeline)
            if not all(pipeline.execute()):
                raise Fenced(f"query {self._query}: a newer run than epoch {epoch} has written; this process must stop")

    def mark(self, batch: int) -> None:
        """Record that all states up to `batch` are stored."""
        self._client.set(self._marker, batch)

    def marked(self) -> int | None:
        """Return the newest batch whose states are all stored, or None if Redis knows nothing of the query."""
        value = self._client.get(self._marker)
        return None if value is None else int(value)

    @property
    def _marker(self) -> str:
        return f"stillpoint:state:{self._query}:marker"

    def _key(self, user: str) -> str:
        return f"stillpoint:state:{self._query}:user:{user}"
