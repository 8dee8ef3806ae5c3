"""A thread pool per kind of work of the service, so that slow work of one kind never blocks another.

A thread cannot be stopped, so a caller that gives up frees nothing: work holds its place in the pool until it has ended,
unless it was cancelled before it began. If all places are taken, more work is refused at once.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from inference.http.problems import unavailable

Answer = TypeVar("Answer")


class Pool:
    """A number of threads for one kind of work, and a number of places to wait for a thread."""

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads + waiting
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Run `work` in a thread of the pool and return its result.

        Raises:
            Problem: 503, all places are taken.
        """
        with self._lock:
            if self._free == 0:
                raise unavailable(f"as many {self._name} are under way as this process can do; come back in a moment")
            self._free -= 1
        try:
            future = self._executor.submit(work)
        except BaseException:
            self._leave()
            raise
        future.add_done_callback(self._leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Cancel work that has not begun, without waiting for the rest."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _: "Future[Any] | None" = None) -> None:
        with self._lock:
            self._free += 1
