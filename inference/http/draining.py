"""Draining: from SIGTERM to the end of a serving process, no request is lost.

For `DRAIN_SECONDS` the process goes on answering, is not ready at `/readyz`, and asks every client to close its
connection. Then the server's own handler closes idle connections and waits for requests in flight.
"""

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

DRAIN_SECONDS = 1.0


class Drainable(Protocol):
    draining: bool


@contextmanager
def drain_on_sigterm(target: Drainable, *, seconds: float = DRAIN_SECONDS) -> Iterator[None]:
    """Drain for `seconds` before SIGTERM takes its previous effect. Needs the running event loop and the main thread, and
    does nothing elsewhere."""
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
