"""Keeps a serving process on the live release.

A thread is woken by notifications in Redis, and reads the release book. The book alone decides: it is read as well every ten
seconds, and twice a second while something is under way or went wrong, so a lost notification costs time only. An announced release is loaded beside the one that answers
and acknowledged; when its generation appears, one reference is swapped. A request takes the reference once. A second thread
beats, so that a process which takes long to load is not taken for dead.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from inference.live.loaded_release import LoadedRelease
from inference.live.renewal import REFRESH_SECONDS, Renewal
from stillpoint.catalogue import news
from stillpoint.clock import Clock
from stillpoint.errors import StillpointError
from stillpoint.outages import OutageLog, outage
from stillpoint.releases.book import ReleaseBook
from stillpoint.releases.presence import BEAT_SECONDS, Notifications, Presence, WorkerKind, beat, leave

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""How often the thread looks whether it must read the book; how often it does while a release is on its way."""
POLL_SECONDS = 10.0
"""How old the book may be while nobody notifies."""
EMPTY_POLL_SECONDS = 2.0
"""The same before the first release."""

Load = Callable[[str, int], LoadedRelease]
"""Loads a release for a generation, verified and tried."""
Refresh = Callable[[LoadedRelease], LoadedRelease]
"""Returns the same release with the contents as they are now."""


class Following:
    """Holds the release that new requests use: `current`, None before the first."""

    def __init__(
        self,
        book: ReleaseBook,
        load: Load,
        *,
        redis: Any,
        kind: WorkerKind,
        address: str,
        clock: Clock,
        refresh: Refresh | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refresh` is called within a release every `refresh_seconds`, since what contents count changes, and as soon as a
        look finds that the catalogue was changed by a command."""
        self._book = book
        self._load = load
        self._refresh = refresh
        self._renewal = Renewal(partial(news, redis), seconds=refresh_seconds, monotonic=monotonic)
        self._redis = redis
        self._kind = kind
        self._address = address
        self._clock = clock
        self.worker = f"{kind}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.current: LoadedRelease | None = None
        self._ready: LoadedRelease | None = None
        self._refused: str | None = None
        self._troubled = False
        self._missed = False
        self._looked_at = 0.0
        self._outage = OutageLog(log, "the release book cannot be followed; what is loaded goes on answering")
        self._mute = OutageLog(log, "this process cannot say that it lives")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)
        self._beating = threading.Thread(target=self._keep_beating, name="beating", daemon=True)

    def start(self) -> None:
        """Load what is live, if anything is, and follow from now on."""
        self._beating.start()
        self.step()
        self._thread.start()

    def close(self) -> None:
        """Stop following and leave the list of workers."""
        self._stop.set()
        for thread in (self._thread, self._beating):
            if thread.is_alive():
                thread.join(10)
        try:
            leave(self._redis, self.worker)
        except Exception as error:  # noqa: BLE001  the beat expires by itself
            log.warning("could not leave the list of workers: %s", error)

    def step(self) -> None:
        """Look at the book once: swap to what is live, load what is announced, refresh the contents, and beat."""
        self._looked_at = time.monotonic()
        self._troubled = True
        try:
            self._follow()
            self._renew()
        except Exception as error:
            if outage(error) is not None or isinstance(error, StillpointError):
                self._outage.met(error, now=time.monotonic())
            else:
                log.exception("the release book cannot be followed; trying again")
        else:
            self._troubled = False
            self._outage.over(now=time.monotonic())
        self._beat()

    def _follow(self) -> None:
        pointer = self._book.live()
        if pointer is not None and (self.current is None or self.current.generation != pointer.generation):
            ready = self._ready
            if ready is None or (ready.id, ready.generation) != (pointer.release, pointer.generation):
                ready = self._load(pointer.release, pointer.generation)
            self.current, self._ready, self._refused = ready, None, None
            self._renewal.loaded()
            self._beat()
        announced = self._book.announced()
        live = 0 if pointer is None else pointer.generation
        if announced is None or announced.generation != live + 1:
            self._ready = None
            return
        if self._ready is None or (self._ready.id, self._ready.generation) != (announced.release, announced.generation):
            self._refused = None
            try:
                self._ready = self._load(announced.release, announced.generation)
            except StillpointError as error:
                if outage(error) is not None:  # nothing is known against the release: it is loaded when the outage ends
                    raise
                self._refused = str(error)

    def _renew(self) -> None:
        """Read the contents anew when it is time. If that fails, the old ones go on answering and it is tried again."""
        if self._refresh is None or self.current is None or not self._renewal.due():
            return
        try:
            self.current = self._refresh(self.current)
        except BaseException:
            self._renewal.failed()
            raise
        self._renewal.done()

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            self._beat()

    def _beat(self) -> None:
        current, ready = self.current, self._ready
        try:
            beat(
                self._redis,
                Presence(
                    worker=self.worker,
                    kind=self._kind,
                    pid=os.getpid(),
                    address=self._address,
                    generation=None if current is None else current.generation,
                    release=None if current is None else current.id,
                    loaded=None if ready is None else ready.id,
                    refused=self._refused,
                    at=self._clock(),
                ),
            )
        except Exception as error:  # noqa: BLE001  Redis may be away; answering goes on and the next beat tells
            self._mute.met(error, now=time.monotonic())
        else:
            self._mute.over(now=time.monotonic())

    def _run(self) -> None:
        with Notifications(self._redis) as notifications:
            while not self._stop.is_set():
                heard = notifications.wait(WAIT_SECONDS)
                self._missed |= notifications.renewed
                if heard is not None or self._due():
                    notifications.drain()
                    self._missed = False
                    self.step()

    def _due(self) -> bool:
        """Say whether the book must be read although nobody has notified."""
        age = time.monotonic() - self._looked_at
        if self._missed or self._troubled or self._ready is not None or self._refused is not None:
            return age >= WAIT_SECONDS
        if self.current is None:
            return age >= EMPTY_POLL_SECONDS
        return age >= POLL_SECONDS or (self._refresh is not None and self._renewal.due())
