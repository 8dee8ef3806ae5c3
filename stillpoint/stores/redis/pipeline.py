"""Sends many prepared commands to Redis in one round trip, and reads their replies.

redis-py packs every argument of every command in Python, which is most of the cost of a feature read. Here commands are
packed once; redis-py still owns the connections (TLS, ACL, pools, topology of a cluster). On a cluster, commands go to
the owners of their keys' slots, one pipeline per node, and a command that was redirected is sent again by redis-py.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    MovedError,
    ResponseError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)

from stillpoint.stores.redis.connection import is_cluster, redis_errors

REDIRECTED = (MovedError, AskError, TryAgainError, ClusterDownError)


def pack(*arguments: bytes) -> bytes:
    """Return one command as Redis reads it."""
    return b"".join([b"*%d\r\n" % len(arguments), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments)])


def unpack(data: bytes) -> tuple[Any, ...]:
    """Return the arguments of a packed command, its name as text."""
    arguments: list[Any] = []
    position = data.index(b"\n") + 1
    while position < len(data):
        start = data.index(b"\n", position) + 1
        end = start + int(data[position + 1 : start - 2])
        arguments.append(data[start:end])
        position = end + 2
    return (arguments[0].decode(), *arguments[1:])


class Command:
    """A prepared command: the key that decides its node, its bytes, and what is kept of its reply (all, or what `keep`
    makes of it, at once: later a long reply is no longer in the processor's cache). A second try on a cluster needs its
    arguments: those given, or the bytes' own."""

    __slots__ = ("_arguments", "data", "keep", "key")

    def __init__(
        self, key: bytes, data: bytes, arguments: tuple[Any, ...] = (), keep: Callable[[Any], Any] | None = None
    ) -> None:
        self.key = key
        self.data = data
        self.keep = keep
        self._arguments = arguments

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self._arguments or unpack(self.data)

    def kept(self, reply: Any) -> Any:
        return reply if self.keep is None else self.keep(reply)


def send(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send all commands and return their replies in order; an error reply is returned, not raised.

    Idempotent commands only: after a lost connection all of them are sent once more.

    Raises:
        StackUnavailable: Redis cannot be reached or does not answer in time.
    """
    if not commands:
        return []
    with redis_errors(client):
        if not is_cluster(client):
            return _exchange(client.connection_pool, commands)
        return _send_to_cluster(client, commands)


def _exchange(pool: Any, commands: Sequence[Command]) -> list[Any]:
    connection = pool.get_connection()
    try:
        return list(
            connection.retry.call_with_retry(
                lambda: _converse(connection, commands), lambda error: connection.disconnect()
            )
        )
    finally:
        pool.release(connection)


def _converse(connection: Any, commands: Sequence[Command]) -> list[Any]:
    try:
        connection.send_packed_command([b"".join([command.data for command in commands])])
        read = connection.read_response
        replies = []
        for command in commands:
            try:
                reply = read(disable_decoding=True)
                replies.append(command.kept(reply))
            except (ConnectionError, TimeoutError):
                raise
            except ResponseError as error:
                replies.append(error)
        return replies
    except BaseException:
        connection.disconnect()  # replies may still arrive: this connection must not be reused
        raise


def _send_to_cluster(client: Any, commands: Sequence[Command]) -> list[Any]:
    manager = client.nodes_manager
    owners: dict[str, list[int]] = {}
    nodes: dict[str, Any] = {}
    for index, command in enumerate(commands):
        node = manager.get_node_from_slot(key_slot(command.key))
        nodes[node.name] = node
        owners.setdefault(node.name, []).append(index)
    replies: list[Any] = [None] * len(commands)
    for name, indexes in owners.items():
        connection = client.get_redis_connection(nodes[name])
        try:
            answers = _exchange(connection.connection_pool, [commands[index] for index in indexes])
        except ConnectionError:
            manager.initialize()  # a node is gone: another may own its slots by now
            answers = [_again(client, commands[index]) for index in indexes]
        for index, answer in zip(indexes, answers, strict=True):
            replies[index] = _again(client, commands[index]) if isinstance(answer, REDIRECTED) else answer
    return replies


def _again(client: Any, command: Command) -> Any:
    """Let redis-py follow redirections, command by command."""
    try:
        return command.kept(client.execute_command(*command.arguments))
    except (ConnectionError, TimeoutError):
        raise
    except ResponseError as error:
        return error


async def send_async(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send as `send`, on the running event loop."""
    if not commands:
        return []
    with redis_errors(client):
        if not is_cluster(client):
            return await _exchange_async(client.connection_pool, commands)
        return await _send_to_cluster_async(client, commands)


async def _exchange_async(pool: Any, commands: Sequence[Command]) -> list[Any]:
    connection = await pool.get_connection()
    try:
        return list(
            await connection.retry.call_with_retry(
                lambda: _converse_async(connection, commands), lambda error: connection.disconnect()
            )
        )
    finally:
        await pool.release(connection)


async def _converse_async(connection: Any, commands: Sequence[Command]) -> list[Any]:
    try:
        await connection.send_packed_command(b"".join([command.data for command in commands]))
        replies = []
        for command in commands:
            try:
                reply = await connection.read_response(disable_decoding=True)
                replies.append(command.kept(reply))
            except (ConnectionError, TimeoutError):
                raise
            except ResponseError as error:
                replies.append(error)
        return replies
    except BaseException:
        await connection.disconnect(nowait=True)
        raise


async def _send_to_cluster_async(client: Any, commands: Sequence[Command]) -> list[Any]:
    await client.initialize()
    owners: dict[str, list[int]] = {}
    nodes: dict[str, Any] = {}
    for index, command in enumerate(commands):
        node = client.nodes_manager.get_node_from_slot(key_slot(command.key))
        nodes[node.name] = node
        owners.setdefault(node.name, []).append(index)
    replies: list[Any] = [None] * len(commands)

    async def converse(name: str, indexes: list[int]) -> None:
        node = nodes[name]
        connection = node.acquire_connection()
        try:
            answers = await _converse_async(connection, [commands[index] for index in indexes])
        except ConnectionError:
            await client.nodes_manager.initialize()
            answers = [await _again_async(client, commands[index]) for index in indexes]
        finally:
            node.release(connection)
        for index, answer in zip(indexes, answers, strict=True):
            redirected = isinstance(answer, REDIRECTED)
            replies[index] = await _again_async(client, commands[index]) if redirected else answer

    await asyncio.gather(*(converse(name, indexes) for name, indexes in owners.items()))
    return replies


async def _again_async(client: Any, command: Command) -> Any:
    try:
        return command.kept(await client.execute_command(*command.arguments))
    except (ConnectionError, TimeoutError):
        raise
    except ResponseError as error:
        return error
