"""What every release verb is given: clients, limits, and the lease by which it is alone."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from stillpoint.clock import Clock, to_micros
from stillpoint.errors import Fenced
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease, renewing
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.presence import Presence, present
from stillpoint.settings import Settings

log = logging.getLogger(__name__)

LEASE = "release"


def _silent(step: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class ReleaseContext:
    """Clients and limits, passed in. `progress` is told of each step before it is taken; it may raise to stop there."""

    settings: Settings
    lake: Lake
    serving: Any
    connect: Callable[[str], Any]
    clock: Clock
    operator: str
    progress: Callable[[str], None] = _silent
    sleep: Callable[[float], None] = time.sleep
    lease_seconds: float = 15.0
    load_seconds: float = 60.0
    """How long workers may take to load an announced release, or to acknowledge a generation."""
    barrier_seconds: float = 120.0
    """How long the stream may take to obey a new control."""
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def book(self) -> ObjectReleaseBook:
        """One for all steps: it remembers what never changes."""
        return ObjectReleaseBook(self.lake.objects)

    def now(self) -> datetime:
        return self.clock()

    def now_us(self) -> int:
        return to_micros(self.clock())

    def online(self, colour: Colour) -> Any:
        """Return the Redis client of a colour; colours on one server share it."""
        connection = self.settings.connection(colour)
        if connection not in self._clients:
            self._clients[connection] = self.connect(connection)
        return self._clients[connection]

    def workers(self) -> list[Presence]:
        return present(self.serving)

    def wait_until(self, met: Callable[[], bool], seconds: float, *, every: float = 0.02) -> bool:
        """Ask again and again until it is so; say whether it was so in time."""
        deadline = time.monotonic() + seconds
        while not met():
            if time.monotonic() >= deadline:
                return False
            self.sleep(every)
        return True


class HeldReleaseLease:
    """The release lease while a verb runs. `check` before every step that destroys or decides."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._lost: Fenced | None = None

    def lose(self, fenced: Fenced) -> None:
        """Note that the lease is lost, whatever the store may say later."""
        log.error("%s", fenced)
        self._lost = fenced

    def require(self) -> None:
        """Make sure that the lease is not known to be lost. Asks nobody, so it may be called often.

        Raises:
            Fenced: it is lost.
        """
        if self._lost is not None:
            raise self._lost

    def check(self) -> None:
        """Make sure that nobody took the lease, nor could have taken it.

        Raises:
            Fenced: somebody did, or it ended since this process could not renew it.
        """
        self.require()
        self._lease.check()


@contextmanager
def exclusive(context: ReleaseContext, verb: str) -> Iterator[HeldReleaseLease]:
    """Hold the release lease, renewing it in the background until it ends, whatever the store answers between.

    Raises:
        LeaseHeld: another release verb runs; the text names who runs it. After a kill, wait for the time to live.
        Fenced: the lease was lost while the verb ran.
    """
    ttl = timedelta(seconds=context.lease_seconds)
    lease = Lease(
        context.lake.objects,
        LEASE,
        holder=f"stillpoint release {verb} by {context.operator}",
        ttl=ttl,
        clock=context.clock,
    )
    lease.acquire()
    held = HeldReleaseLease(lease)
    try:
        with renewing(lease, every=context.lease_seconds / 4, lost=held.lose, give_up=ttl):
            yield held
    finally:
        try:
            lease.release()
        except Exception as error:  # noqa: BLE001  it expires by itself; what the verb raised is what matters
            log.warning("the release lease could not be given up and will expire: %s", error)
