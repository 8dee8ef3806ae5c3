"""Commands go over one connection in one write, and their replies come back in order; an error reply is one of them.

A connection whose replies may still be under way serves nobody else: it is closed.
"""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import (
    ConnectionError,  # noqa: A004
    ResponseError,
    TimeoutError,  # noqa: A004
)

from stillpoint.stores.redis.command import Command


def exchange(pool: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands over a connection of a pool; a lost connection is retried as the pool was told to."""
    connection = pool.get_connection()
    try:
        return list(
            connection.retry.call_with_retry(
                lambda: _converse(connection, commands), lambda error: connection.disconnect()
            )
        )
    finally:
        pool.release(connection)


async def exchange_async(pool: Any, commands: Sequence[Command]) -> list[Any]:
    """Do what `exchange` does, on the running event loop."""
    connection = await pool.get_connection()
    try:
        return list(
            await connection.retry.call_with_retry(
                lambda: converse_async(connection, commands), lambda error: connection.disconnect()
            )
        )
    finally:
        await pool.release(connection)


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
        connection.disconnect()  # replies may be under way: this connection must not serve anybody else
        raise


async def converse_async(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Send commands over this connection of the running event loop."""
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
