"""Sends requests from a process of its own, so that the rehearsal's other work does not delay them."""

import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from release.rehearsal.history import RecordedAnswer
from release.rehearsal.load import RehearsalLoad
from stillpoint.errors import StackUnavailable

START_SECONDS = 60.0
END_SECONDS = 60.0


class LoadProcess:
    """`RehearsalLoad` in another process, from `with` until its end; `answers` is filled then. It ends when this process does.

    Raises:
        StackUnavailable: the process ended by itself or does not hand over its answers; entering and leaving raise it.
    """

    def __init__(
        self, url: str, users: Sequence[str], *, rate: float, threads: int = 4, token: str | None = None
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, self._there = context.Pipe()
        self._process = context.Process(
            target=_ask, args=(url, list(users), rate, threads, token, self._there), daemon=True
        )
        self.answers: list[RecordedAnswer] = []
        self.began = 0.0

    def __enter__(self) -> "LoadProcess":
        self._process.start()
        self._there.close()
        self.began = self._take(START_SECONDS)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._here.send(None)
            self.answers = self._take(END_SECONDS)
        finally:
            self._process.terminate()
            self._process.join()

    def now(self) -> float:
        """Seconds since the load began. All processes of a host share `time.monotonic()`'s zero."""
        return time.monotonic() - self.began

    def _take(self, seconds: float) -> Any:
        try:
            if self._here.poll(seconds):
                return self._here.recv()
        except EOFError:
            self._process.join()
            raise StackUnavailable(f"the load's process ended by itself with code {self._process.exitcode}") from None
        raise StackUnavailable(f"the load's process has said nothing for {seconds:.0f} s")


def _ask(url: str, users: list[str], rate: float, threads: int, token: str | None, there: Connection) -> None:
    with RehearsalLoad(url, users, rate=rate, threads=threads, token=token) as load:
        there.send(load.began)
        try:
            there.recv()
        except EOFError:  # whoever asked for the load is gone
            return
    there.send(load.answers)
