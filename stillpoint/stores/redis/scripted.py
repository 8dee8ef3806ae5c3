"""A Lua script is sent by its digest; a node that does not know it, such as a promoted replica, is sent its text."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.exceptions import NoScriptError

from stillpoint.stores.redis.client import AnyRedis
from stillpoint.stores.redis.command import Command, pack
from stillpoint.stores.redis.pipeline import FAILOVER_SECONDS, send, send_async

_BY_DIGEST = b"$7\r\nEVALSHA\r\n$40\r\n"


class Script:
    """A Lua script of one key that may be run twice with the same effect."""

    __slots__ = ("_text", "digest")

    def __init__(self, text: str | bytes) -> None:
        data = text.encode() if isinstance(text, str) else text
        self.digest = sha1(data, usedforsecurity=False).hexdigest().encode()
        self._text = b"$4\r\nEVAL\r\n$%d\r\n%b\r\n" % (len(data), data)

    def command(self, key: str | bytes, *arguments: str | bytes | int) -> Command:
        """Return the call for a key."""
        name = _bytes(key)
        return Command(name, pack(b"EVALSHA", self.digest, b"1", name, *map(_bytes, arguments)))

    def run(self, client: AnyRedis, commands: Sequence[Command], *, replicas: int = 1) -> list[Any]:
        """Send calls of this script as writes (see `send`) and return their replies in order; error replies are returned.

        Raises:
            StackUnavailable: Redis cannot be reached or does not answer in time.
        """
        replies = send(client, commands, patience=FAILOVER_SECONDS, replicas=replicas)
        unknown = self._unknown(replies)
        if unknown:
            again = [self._in_full(commands[index]) for index in unknown]
            answers = send(client, again, patience=FAILOVER_SECONDS, replicas=replicas)
            for index, answer in zip(unknown, answers, strict=True):
                replies[index] = answer
        return replies

    async def run_async(self, client: AnyRedis, commands: Sequence[Command], *, replicas: int = 1) -> list[Any]:
        """Do what `run` does, with an asyncio client."""
        replies = await send_async(client, commands, patience=FAILOVER_SECONDS, replicas=replicas)
        unknown = self._unknown(replies)
        if unknown:
            again = [self._in_full(commands[index]) for index in unknown]
            answers = await send_async(client, again, patience=FAILOVER_SECONDS, replicas=replicas)
            for index, answer in zip(unknown, answers, strict=True):
                replies[index] = answer
        return replies

    @staticmethod
    def _unknown(replies: Sequence[Any]) -> list[int]:
        return [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]

    def _in_full(self, command: Command) -> Command:
        head, _, rest = command.data.partition(_BY_DIGEST)
        return Command(command.key, head + self._text + rest[len(self.digest) + 2 :], command.keep)


def _bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
