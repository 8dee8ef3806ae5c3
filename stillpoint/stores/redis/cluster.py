"""Commands reach the owners of their keys' slots, through moved slots, failovers and nodes that come back.

One pipeline per node. A reply that says that the cluster is changing, and a node that says nothing, leave their commands
to do: they go to whoever owns the slots by then, until `patience` is over. So only commands that may come twice are sent.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    MaxConnectionsError,
    MovedError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from stillpoint.stores.redis.client import ClusterClient, RedisClient
from stillpoint.stores.redis.command import Command, pack
from stillpoint.stores.redis.exchange import converse_async, exchange

CHANGING = (TryAgainError, ClusterDownError, ReadOnlyError, BusyLoadingError)
OURS = (AuthenticationError, AuthorizationError, MaxConnectionsError)
"""Errors of a connection that no other node and no later moment would mend."""
REPLICA_MILLISECONDS = 1_000
"""How long a write waits for a replica that the topology names; one that is away meanwhile is not waited for again."""
_ASKING = Command(b"", pack(b"ASKING"))
_AT_ONCE = 4
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class Course:
    """What is still to do of some commands, and what the cluster said of them. It sends nothing itself."""

    def __init__(self, commands: Sequence[Command], *, now: float, patience: float, replicas: int) -> None:
        self.commands = commands
        self.replicas = replicas
        self.deadline = now + patience
        self.replies: list[Any] = [None] * len(commands)
        self.todo = set(range(len(commands)))
        self.asked: dict[int, tuple[str, int]] = {}
        self.moved: list[MovedError] = []
        self.lost: Exception | None = None
        self.changing = False
        self.rounds = 0

    def begin(self) -> None:
        """Begin a round: what the last one said of the cluster has been obeyed."""
        self.rounds += 1
        self.moved.clear()
        self.lost = None
        self.changing = False

    def send(self, indexes: Sequence[int], *, asking: bool, replicated: bool) -> list[Command]:
        """Return what goes to one node for these commands, in one write."""
        sent = [self.commands[index] for index in indexes]
        if asking:
            sent = [one for command in sent for one in (_ASKING, command)]
        if self.replicas and replicated:
            sent.append(Command(b"", pack(b"WAIT", b"%d" % self.replicas, b"%d" % REPLICA_MILLISECONDS)))
        return sent

    def settle(self, indexes: Sequence[int], answers: Sequence[Any], *, asking: bool) -> None:
        """Take a node's answers to what `send` returned."""
        own = answers[1 : 2 * len(indexes) : 2] if asking else answers[: len(indexes)]
        confirmed = answers[-1] if len(answers) > len(indexes) * (1 + asking) else None
        if isinstance(confirmed, int) and confirmed < self.replicas:
            self.changing = True  # the replica is away: the topology is asked, which soon no longer names it
        for index, answer in zip(indexes, own, strict=True):
            self.asked.pop(index, None)
            self.replies[index] = answer
            if isinstance(answer, MovedError):
                self.moved.append(answer)
            elif isinstance(answer, AskError):
                self.asked[index] = (answer.host, answer.port)
            elif isinstance(answer, CHANGING):
                self.changing = True
            else:
                self.todo.discard(index)

    def lose(self, indexes: Sequence[int], error: Exception) -> None:
        """Note that a node gave no answers, or that nobody owns the slots."""
        for index in indexes:
            self.asked.pop(index, None)
            self.replies[index] = error
        self.lost = error

    @property
    def is_stale(self) -> bool:
        """The topology has to be asked: a node is away or says so, or slots have moved, and more than these may have."""
        return self.changing or self.lost is not None or (bool(self.moved) and self.rounds == 1)

    def pause(self) -> float:
        """Return how long to wait before the next round: redirections alone are followed at once."""
        if self.rounds < _AT_ONCE and not (self.changing or self.lost):
            return 0.0
        return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self.rounds, 10)))

    def is_over(self, now: float) -> bool:
        """Say whether all is done, or patience at an end after redirections and one more try were followed."""
        if self.todo and now < self.deadline:
            return False
        rounds = 2 if self.lost or self.changing else _AT_ONCE
        return not self.todo or isinstance(self.lost, TimeoutError) or self.rounds >= rounds

    def outcome(self) -> list[Any]:
        """Return the replies; raise the error of a node that never answered."""
        silent = next((self.replies[index] for index in sorted(self.todo) if _is_silence(self.replies[index])), None)
        if silent is not None:
            raise silent
        return self.replies


def _is_silence(reply: Any) -> bool:
    return isinstance(reply, Exception) and not isinstance(reply, ResponseError)


def send_to_cluster(client: ClusterClient, commands: Sequence[Command], *, patience: float, replicas: int) -> list[Any]:
    """Send commands to a cluster and return their replies in order; `replicas` must have a write where there are any."""
    course = Course(commands, now=time.monotonic(), patience=patience, replicas=replicas)
    while True:
        course.begin()
        for node, indexes, asking, replicated in _destinations(client.nodes_manager, course):
            try:
                pool = client.get_redis_connection(node).connection_pool
                answers = exchange(pool, course.send(indexes, asking=asking, replicated=replicated))
            except OURS:
                raise
            except (ConnectionError, TimeoutError) as error:
                course.lose(indexes, error)
                client.nodes_manager.move_node_to_end_of_cached_nodes(node.name)
            else:
                course.settle(indexes, answers, asking=asking)
        _follow(client.nodes_manager, course)
        if course.is_stale:
            try:
                client.nodes_manager.initialize()
            except (ConnectionError, TimeoutError, RedisClusterException) as error:
                course.lost = course.lost or error
        if course.is_over(time.monotonic()):
            return course.outcome()
        time.sleep(course.pause())


async def send_to_cluster_async(
    client: ClusterClient, commands: Sequence[Command], *, patience: float, replicas: int
) -> list[Any]:
    """Do what `send_to_cluster` does, on the running event loop; the nodes are asked at the same time."""
    await client.initialize()
    course = Course(commands, now=time.monotonic(), patience=patience, replicas=replicas)

    async def converse(node: Any, indexes: list[int], asking: bool, replicated: bool) -> None:
        connection = node.acquire_connection()
        try:
            await node.disconnect_if_needed(connection)
            answers = await converse_async(connection, course.send(indexes, asking=asking, replicated=replicated))
        except OURS:
            raise
        except (ConnectionError, TimeoutError) as error:
            course.lose(indexes, error)
        else:
            course.settle(indexes, answers, asking=asking)
        finally:
            node.release(connection)

    while True:
        course.begin()
        await asyncio.gather(*(converse(*destination) for destination in _destinations(client.nodes_manager, course)))
        _follow(client.nodes_manager, course)
        if course.is_stale:
            try:
                await client.nodes_manager.initialize()
            except (ConnectionError, TimeoutError, RedisClusterException) as error:
                course.lost = course.lost or error
        if course.is_over(time.monotonic()):
            return course.outcome()
        await asyncio.sleep(course.pause())


def _destinations(manager: Any, course: Course) -> list[tuple[Any, list[int], bool, bool]]:
    """Return what goes where: node, commands, whether they must be announced by ASKING, whether the node has replicas."""
    found: dict[tuple[str, bool], tuple[Any, list[int], bool, bool]] = {}
    for index in sorted(course.todo):
        asked = course.asked.get(index)
        slot = key_slot(course.commands[index].key)
        node = None if asked is None else manager.get_node(host=asked[0], port=asked[1])
        if node is None:
            try:
                node = manager.get_node_from_slot(slot)
            except RedisClusterException as error:
                course.lose([index], error)
                continue
            if asked is not None:
                course.changing = True  # a node that the topology does not name yet
                course.asked.pop(index)
                asked = None
        replicated = len(manager.slots_cache.get(slot, ())) > 1
        key = (node.name, asked is not None)
        found.setdefault(key, (node, [], asked is not None, replicated))[1].append(index)
    return list(found.values())


def _follow(manager: Any, course: Course) -> None:
    for error in course.moved:
        manager.move_slot(error)


def primaries(client: ClusterClient) -> Iterator[tuple[str, RedisClient]]:
    """Yield the name and the client of each primary that owns slots, as far as the client knows."""
    nodes = {nodes[0].name: nodes[0] for nodes in client.nodes_manager.slots_cache.values() if nodes}
    for name in sorted(nodes):
        yield name, client.get_redis_connection(nodes[name])


def slot_ranges(client: ClusterClient) -> list[tuple[int, int, str]]:
    """Ask a cluster now which primary owns which slots: first, last, name."""
    _, node = next(primaries(client))
    (slots,) = exchange(node.connection_pool, [Command(b"", pack(b"CLUSTER", b"SLOTS"))])
    if isinstance(slots, Exception):
        raise slots
    return [(first, last, f"{host.decode()}:{port}") for first, last, (host, port, *_), *_ in slots]
