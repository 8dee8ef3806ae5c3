"""Draining: from SIGTERM to the end of a serving process, no request is lost.

For a moment the process goes on answering, says at `/readyz` that it is not ready, and asks every client to close its
connection. Then the server's own handler closes what is idle and waits for what is under way.
"""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

DRAIN_SECONDS = 1.0


class Draining(Protocol):
    draining: bool


@contextmanager
def drain_on_sigterm(target: Draining, *, seconds: float = DRAIN_SECONDS) -> Iterator[None]:
    """Put `seconds` of draining before what SIGTERM does so far. Needs the running loop and the main thread, else it does
    nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: FrameType | None) -> None:
        def end() -> None:
            if callable(before):
                before(number, frame)

        if not target.draining:
            target.draining = True
            loop.call_soon_threadsafe(loop.call_later, seconds, end)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
