"""Threads for each kind of work of the service, so that slow work of one kind never keeps another from its own.

Whoever stops waiting for an answer frees nothing: a thread cannot be stopped. So a place in a pool is taken until the work
itself has ended, or is given back unbegun; who finds no place is turned away at once.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from inference.http.problems import unavailable

Answer = TypeVar("Answer")


class Pool:
    """So many threads of one kind of work, and so many places to wait for one."""

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads + waiting
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Return what the work returns.

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
        """Begin nothing more, and wait for nobody."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _: "Future[Any] | None" = None) -> None:
        with self._lock:
            self._free += 1
