"""Within a rehearsal our stores check what they are given to write, to the last value, and write nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_REHEARSING: ContextVar[bool] = ContextVar("stillpoint_rehearsing", default=False)


@contextmanager
def rehearsal() -> Iterator[None]:
    """Rehearse what is called within: in this thread or task, and in those that it starts meanwhile."""
    token = _REHEARSING.set(True)
    try:
        yield
    finally:
        _REHEARSING.reset(token)


def is_rehearsal() -> bool:
    """Say whether nothing may be written now."""
    return _REHEARSING.get()
