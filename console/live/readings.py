"""Readings that many pages share: made in threads, at most one of a kind at a time, and none older than is asked for.

A reading never raises: what fails becomes a sentence. One that hangs is said to hang, and the last one stays to be seen.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from console.trouble import Trouble, trouble

T = TypeVar("T")
_THREADS = 8
_PATIENCE_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What was read, or why it could not be; both None before the first is done."""

    value: T | None = None
    trouble: Trouble | None = None


class Readings:
    """The readings of one console, by name."""

    def __init__(self, *, patience: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="reading")
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._kept: dict[str, tuple[float, Any]] = {}
        self._failed: dict[str, Trouble] = {}

    async def read(self, name: str, make: Callable[[], T], *, fresh: float = 1.0) -> Reading[T]:
        """Return a reading of this name that is at most `fresh` seconds old, and wait for it no longer than patience allows."""
        kept = self._kept.get(name)
        if kept is not None and time.monotonic() - kept[0] <= fresh:
            return Reading(kept[1])
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.ensure_future(self._make(name, make))
            task.add_done_callback(lambda _: self._running.pop(name, None))
        try:
            async with asyncio.timeout(self._patience):
                return Reading(await asyncio.shield(task))
        except TimeoutError:
            last = None if kept is None else kept[1]
            return Reading(last, self._failed.get(name) or Trouble.hangs(self._patience))
        except Exception as error:  # noqa: BLE001  whatever fails is told on the page
            return Reading(None, self._failed.get(name) or trouble(error))

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in a thread of its own turn, and return what it returns; failures are raised."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def forget(self, *beginnings: str) -> None:
        """Let the next reading of these names be made anew."""
        self._kept = {name: kept for name, kept in self._kept.items() if not name.startswith(beginnings)}

    async def _make(self, name: str, make: Callable[[], T]) -> T:
        try:
            found = await self.run(make)
        except Exception as error:
            self._failed[name] = trouble(error)  # told also to those who have stopped waiting
            raise
        self._failed.pop(name, None)
        self._kept[name] = (time.monotonic(), found)
        return found

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
