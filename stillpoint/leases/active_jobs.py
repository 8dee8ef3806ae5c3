"""Lists the running jobs that have read rows of the lake and will write results derived from them.

A backfill, a daily run, a snapshot or a `feast materialize` announces itself with a lease of its own. They never exclude
each other. An erasure waits for them, since they could write rows of the erased user again.
"""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from stillpoint.clock import Clock
from stillpoint.errors import Fenced
from stillpoint.lake.objects import Objects
from stillpoint.leases.lease import Epoch, Lease, renewing

TTL = timedelta(seconds=30)
"""How long a killed job still counts as running."""
_LEASES = "leases/"
_FOLDER = "under_way/"


@contextmanager
def announce_job(objects: Objects, what: str, *, clock: Clock) -> Iterator[None]:
    """Announce, for as long as the block runs, that this process reads the lake and writes results of what it read."""
    name = f"{_FOLDER}{uuid.uuid4().hex}"
    holder = f"{what}, process {os.getpid()} on {socket.gethostname()}"
    lease = Lease(objects, name, holder=holder, ttl=TTL, clock=clock)
    lease.acquire()
    try:
        with renewing(lease, every=TTL.total_seconds() / 5, lost=_nobody_takes_it):
            yield
    finally:
        lease.release()
        for key in list(objects.list(f"{_LEASES}{name}/")):
            objects.delete(key)


def active_jobs(objects: Objects, *, clock: Clock) -> list[Epoch]:
    """Return the jobs that are announced now. A killed job is listed until its lease has expired."""
    prefix = f"{_LEASES}{_FOLDER}"
    names = {key.removeprefix(prefix).partition("/")[0] for key in objects.list(prefix)}
    holders = (
        Lease(objects, f"{_FOLDER}{name}", holder="reader", ttl=TTL, clock=clock).holder() for name in sorted(names)
    )
    return [holder for holder in holders if holder is not None]


def _nobody_takes_it(fenced: Fenced) -> None:
    raise AssertionError(f"a name that is never given twice was taken: {fenced}")
