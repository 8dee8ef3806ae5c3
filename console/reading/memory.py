"""How much memory each Redis uses, of how much, and whether it has dropped keys."""

from collections.abc import Mapping
from dataclasses import dataclass

from console.sources import Sources
from stillpoint.releases.colour import Colour
from stillpoint.stores.redis.shards import shards


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """One Redis server: what it is used for, bytes used, the most it may use (0: no limit), its policy and evictions."""

    server: str
    holds: tuple[str, ...]
    used: int
    limit: int
    policy: str
    evicted: int

    @property
    def filled(self) -> float | None:
        """The share of its memory that is used; None without a limit."""
        return self.used / self.limit if self.limit else None


def memory(sources: Sources) -> tuple[ServerMemory, ...]:
    """Ask every Redis of the settings; one that several settings name is asked once.

    Raises:
        StackUnavailable: one does not answer.
    """
    settings = sources.settings
    named: Mapping[str, str] = {
        "green": settings.connection(Colour.GREEN),
        "blue": settings.connection(Colour.BLUE),
        "recommendations": settings.redis_serving.get_secret_value(),
        "the stream's states": settings.redis_state.get_secret_value(),
    }
    found: dict[str, ServerMemory] = {}
    for connection in dict.fromkeys(named.values()):
        holds = tuple(name for name, one in named.items() if one == connection)
        for shard in shards(sources.redis(connection)):
            known = found.get(shard.name)
            found[shard.name] = ServerMemory(
                server=shard.name,
                holds=(*known.holds, *holds) if known else holds,
                used=shard.used_memory,
                limit=shard.max_memory,
                policy=shard.policy,
                evicted=shard.evicted,
            )
    return tuple(found.values())
