"""A rehearsal: Stillpoint's stores check every value that they are given to write, and write nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_REHEARSING: ContextVar[bool] = ContextVar("stillpoint_rehearsing", default=False)


@contextmanager
def rehearsal() -> Iterator[None]:
    """Rehearse writes within the block: in this thread or task, and in tasks and threads that it starts."""
    token = _REHEARSING.set(True)
    try:
        yield
    finally:
        _REHEARSING.reset(token)


def is_rehearsal() -> bool:
    """Return whether a rehearsal is running, in which nothing may be written."""
    return _REHEARSING.get()
