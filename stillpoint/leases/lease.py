"""A lease: one holder at a time, and a former holder's writes are refused (fencing).

A lease is a sequence of create-only epochs `leases/<name>/<epoch>.json` with a heartbeat beside them. The process that
creates the next epoch holds the lease. Every fenced write carries the epoch, and is refused if a newer one exists.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.clock import Clock
from stillpoint.errors import AlreadyExists, CorruptData, Fenced, LeaseHeld, ObjectMissing
from stillpoint.lake.objects import Objects
from stillpoint.outages import OutageLog

_Model = TypeVar("_Model", bound=BaseModel)

log = logging.getLogger(__name__)


class Epoch(BaseModel):
    """One acquisition of the lease."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int = Field(ge=1)
    holder: str
    at: AwareDatetime


class Heartbeat(BaseModel):
    """The holder's last heartbeat; `released` if the holder gave the lease up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: int
    at: AwareDatetime
    released: bool = False


class Lease:
    """A lease by name. `holder` describes this process for error texts: program, process and host."""

    def __init__(self, objects: Objects, name: str, *, holder: str, ttl: timedelta, clock: Clock) -> None:
        self._objects = objects
        self._name = name
        self._holder = holder
        self._ttl = ttl
        self._clock = clock
        self._epoch: int | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def epoch(self) -> int:
        """The epoch under which this process holds the lease.

        Raises:
            Fenced: it does not hold it.
        """
        if self._epoch is None:
            raise Fenced(f"lease {self._name} is not held by {self._holder}; acquire it first")
        return self._epoch

    def acquire(self) -> int:
        """Take the lease and return its epoch.

        Raises:
            LeaseHeld: another process holds it, and has renewed it within the time to live.
        """
        now = self._clock()
        last = self._last()
        if last is not None:
            seen, released = self._seen(last)
            if not released and now - seen < self._ttl:
                raise LeaseHeld(
                    f"lease {self._name} is held by {last.holder} since {last.at:%Y-%m-%d %H:%M:%S} UTC, last seen "
                    f"{(now - seen).total_seconds():.0f} s ago; stop it, or wait {self._ttl.total_seconds():.0f} s if it died"
                )
        taken = Epoch(epoch=1 if last is None else last.epoch + 1, holder=self._holder, at=now)
        try:
            self._objects.create(self._key(taken.epoch), taken.model_dump_json().encode())
        except AlreadyExists:
            winner = self._parse(Epoch, self._key(taken.epoch))
            if winner != taken:
                raise LeaseHeld(f"lease {self._name} was taken at this moment by {winner.holder}; try again") from None
        self._epoch = taken.epoch
        self.renew()
        return taken.epoch

    def renew(self) -> None:
        """Write a heartbeat.

        Raises:
            Fenced: another process has taken the lease meanwhile.
        """
        self.check()
        self._beat(released=False)

    def check(self) -> None:
        """Check that no other process has taken the lease since.

        Raises:
            Fenced: a newer epoch exists; stop at once.
        """
        mine = self.epoch
        last = self._last()
        if last is None or last.epoch != mine:
            who = "nobody" if last is None else f"{last.holder} (epoch {last.epoch})"
            raise Fenced(
                f"lease {self._name} of epoch {mine} is lost; it belongs to {who} now, so this process must stop"
            )

    def release(self) -> None:
        """Give the lease up, so that the next holder need not wait for its expiry."""
        last = self._last()
        if self._epoch is not None and last is not None and last.epoch == self._epoch:
            self._beat(released=True)
        self._epoch = None

    def holder(self) -> Epoch | None:
        """Return the epoch that holds the lease now, or None."""
        last = self._last()
        if last is None:
            return None
        seen, released = self._seen(last)
        return None if released or self._clock() - seen >= self._ttl else last

    def _key(self, epoch: int) -> str:
        return f"leases/{self._name}/epochs/{epoch:012d}.json"

    def _beat(self, *, released: bool) -> None:
        beat = Heartbeat(epoch=self.epoch, at=self._clock(), released=released)
        self._objects.put(f"leases/{self._name}/heartbeat.json", beat.model_dump_json().encode())

    def _last(self) -> Epoch | None:
        newest = max(self._objects.list(f"leases/{self._name}/epochs/"), default=None)
        return None if newest is None else self._parse(Epoch, newest)

    def _seen(self, last: Epoch) -> tuple[datetime, bool]:
        """Return when the holder was last seen: its heartbeat, or the taking itself if none of its epoch is there yet."""
        try:
            beat = self._parse(Heartbeat, f"leases/{self._name}/heartbeat.json")
        except ObjectMissing:
            return last.at, False
        return (beat.at, beat.released) if beat.epoch == last.epoch else (last.at, False)

    def _parse(self, kind: type[_Model], key: str) -> _Model:
        try:
            return kind.model_validate_json(self._objects.get(key))
        except ValueError as error:
            raise CorruptData(f"{key} cannot be read: {error}") from None


@contextmanager
def renewing(
    lease: Lease, *, every: float, lost: Callable[[Fenced], None], give_up: timedelta | None = None
) -> Iterator[None]:
    """Renew a lease every `every` seconds, from a background thread, for as long as the block runs.

    `lost` is called once, from that thread, when another process has taken the lease. If the object store does not answer,
    renewing is tried again at the next interval; should the lease expire meanwhile, the next holder fences this process.
    With `give_up`, the lease also counts as lost once it has not been renewed for that long.
    """
    ended = threading.Event()
    away = OutageLog(log, f"the lease {lease.name} cannot be renewed, trying again every {every:.1f} s")

    def beat() -> None:
        renewed = time.monotonic()
        while not ended.wait(every):
            began = time.monotonic()
            try:
                lease.renew()
            except Fenced as fenced:
                lost(fenced)
                return
            except Exception as error:  # noqa: BLE001  whatever the store raises, the next interval tries again
                away.met(error, now=began)
                if give_up is not None and time.monotonic() - renewed >= give_up.total_seconds():
                    lost(Fenced(_expired(lease, time.monotonic() - renewed, error)))
                    return
            else:
                renewed = began
                away.over(now=began)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _expired(lease: Lease, seconds: float, error: Exception) -> str:
    return (
        f"lease {lease.name} could not be renewed for {seconds:.0f} s and has ended ({' '.join(str(error).split())}), so "
        "somebody else may have taken it; this process stops"
    )
