"""The context of every release verb: clients, time limits, and the lease that keeps other release verbs out."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from stillpoint.audit.log import AuditAction, AuditLog
from stillpoint.clock import Clock, to_micros
from stillpoint.errors import Fenced
from stillpoint.lake.tables import Lake
from stillpoint.leases.lease import Lease, renewing
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import Colour
from stillpoint.releases.presence import Presence, present
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import Connect, RedisClient

log = logging.getLogger(__name__)

LEASE = "release"


def _silent(step: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class ReleaseContext:
    """Clients and time limits of a release verb. `progress` is called with each step before it is taken; it may raise to stop there."""

    settings: Settings
    lake: Lake
    serving: RedisClient
    connect: Connect
    clock: Clock
    operator: str
    progress: Callable[[str], None] = _silent
    sleep: Callable[[float], None] = time.sleep
    lease_seconds: float = 15.0
    load_seconds: float = 60.0
    """How long workers may take to load an announced release, or to acknowledge a generation."""
    barrier_seconds: float = 120.0
    """How long the stream may take to acknowledge new write targets."""
    _clients: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def book(self) -> ObjectReleaseBook:
        """The release book, one for all steps: it caches what never changes."""
        return ObjectReleaseBook(self.lake.objects)

    @cached_property
    def audit(self) -> AuditLog:
        """The audit log, which a verb writes before it changes what is live or ends a release."""
        return AuditLog(self.lake.objects, self.clock)

    def note(self, action: AuditAction, release_id: str, why: str) -> None:
        """Note in the audit log what this verb is about to do."""
        self.audit.append(action, by=self.operator, details={"release": release_id, "why": why})

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
        """Poll until the condition holds; return whether it held in time."""
        deadline = time.monotonic() + seconds
        while not met():
            if time.monotonic() >= deadline:
                return False
            self.sleep(every)
        return True


class HeldReleaseLease:
    """The release lease while a verb runs. Call `check` before every step that deletes data or makes something live."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._lost: Fenced | None = None

    def lose(self, fenced: Fenced) -> None:
        """Note that the lease is lost, for good."""
        log.error("%s", fenced)
        self._lost = fenced

    def require(self) -> None:
        """Raise if the lease is known to be lost. Makes no call, so it may be called often.

        Raises:
            Fenced: it is lost.
        """
        if self._lost is not None:
            raise self._lost

    def check(self) -> None:
        """Raise unless the lease is still held, by what the store says now.

        Raises:
            Fenced: somebody did, or it ended since this process could not renew it.
        """
        self.require()
        self._lease.check()


@contextmanager
def exclusive(context: ReleaseContext, verb: str) -> Iterator[HeldReleaseLease]:
    """Hold the release lease, renewed in the background; failed renewals are tolerated until it expires.

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
