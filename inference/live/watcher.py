"""Keeps a serving process on the live release.

A thread waits for notifications in Redis and then reads the release book. The book alone decides: it is also read every
ten seconds, and twice a second during a switch or after an error, so a lost notification only costs time. An announced
release is loaded beside the live one, and the process reports it as loaded; when its generation appears, one reference
is swapped. Each request takes the reference once. A second thread sends heartbeats, so that a process that takes long to
load does not count as dead; a third checks the release's canaries.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial

from inference.live.canaries import CanaryReport, CanaryWatch
from inference.live.loaded_release import LoadedRelease
from inference.live.renewal import REFRESH_SECONDS, Renewal
from stillpoint.catalogue import change_token
from stillpoint.clock import Clock
from stillpoint.errors import StillpointError
from stillpoint.outages import OutageLog, outage
from stillpoint.releases.book import ReleaseBook
from stillpoint.releases.presence import BEAT_SECONDS, Notifications, Presence, WorkerKind, beat, leave
from stillpoint.stores.redis.client import RedisClient

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
"""How long the thread waits for a notification; also how often it reads the book during a switch."""
POLL_SECONDS = 10.0
"""How often the book is read without a notification."""
EMPTY_POLL_SECONDS = 2.0
"""How often the book is read before the first release is live."""

Load = Callable[[str, int], LoadedRelease]
"""Loads and verifies a release for a generation."""
Refresh = Callable[[LoadedRelease], LoadedRelease]
"""Returns the same release with its contents read anew."""


class LiveReleaseWatcher:
    """Holds the release that new requests use in `current` (None before the first), and keeps it the live one."""

    def __init__(
        self,
        book: ReleaseBook,
        load: Load,
        *,
        redis: RedisClient,
        kind: WorkerKind,
        address: str,
        clock: Clock,
        refresh: Refresh | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        on_canaries: Callable[[CanaryReport], None] = lambda report: None,
    ) -> None:
        """`refresh` reads the contents of the current release anew: every `refresh_seconds`, as counts and the catalogue
        change, and as soon as a catalogue command was seen. `on_canaries` gets each report about the canaries."""
        self._book = book
        self._load = load
        self._refresh = refresh
        self._renewal = Renewal(partial(change_token, redis), seconds=refresh_seconds, monotonic=monotonic)
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
        self._canaries = CanaryWatch(lambda: self.current, clock, on_canaries)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)
        self._beating = threading.Thread(target=self._keep_beating, name="beating", daemon=True)

    def start(self) -> None:
        """Load the live release if there is one, and follow the release book from now on."""
        self._beating.start()
        self.step()
        self._thread.start()
        self._canaries.start()

    def close(self) -> None:
        """Stop following and leave the list of workers."""
        self._stop.set()
        self._canaries.close()
        for thread in (self._thread, self._beating):
            if thread.is_alive():
                thread.join(10)
        try:
            leave(self._redis, self.worker)
        except Exception as error:  # noqa: BLE001  the beat expires by itself
            log.warning("could not leave the list of workers: %s", error)

    def step(self) -> None:
        """Read the book once: swap to the live release, load the announced one, refresh the contents, send a heartbeat."""
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
                if outage(error) is not None:  # not the release's fault: it is loaded when the outage ends
                    raise
                self._refused = str(error)

    def _renew(self) -> None:
        """Read the contents anew if they are due. If that fails, the old ones stay in use and it is tried again later."""
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
        current, ready, canaries = self.current, self._ready, self._canaries.last
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
                    canaries_wrong=None if canaries is None else len(canaries.wrong),
                    at=self._clock(),
                ),
            )
        except Exception as error:  # noqa: BLE001  without Redis answering goes on, and the next heartbeat reports
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
        """Return whether the book must be read without a notification."""
        age = time.monotonic() - self._looked_at
        if self._missed or self._troubled or self._ready is not None or self._refused is not None:
            return age >= WAIT_SECONDS
        if self.current is None:
            return age >= EMPTY_POLL_SECONDS
        return age >= POLL_SECONDS or (self._refresh is not None and self._renewal.due())
