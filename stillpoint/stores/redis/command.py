"""A command is prepared as bytes once; its key decides the node of a cluster that it goes to."""

from collections.abc import Callable
from typing import Any


def pack(*arguments: bytes) -> bytes:
    """Return one command as Redis reads it."""
    return b"".join([b"*%d\r\n" % len(arguments), *(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments)])


class Command:
    """A prepared command: the key that decides its node, its bytes, and what is kept of its reply (all, or what `keep`
    makes of it, at once: later a long reply is no longer in the processor's cache)."""

    __slots__ = ("data", "keep", "key")

    def __init__(self, key: bytes, data: bytes, keep: Callable[[Any], Any] | None = None) -> None:
        self.key = key
        self.data = data
        self.keep = keep

    def kept(self, reply: Any) -> Any:
        return reply if self.keep is None else self.keep(reply)
