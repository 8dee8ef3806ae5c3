"""The leases that several rooms name, each with its one time to live."""

from datetime import timedelta

from stillpoint.clock import Clock
from stillpoint.lake.objects import Objects
from stillpoint.leases.lease import Lease

STREAM_TTL = timedelta(seconds=15)
COMPACT_TTL = timedelta(hours=1)


def stream_lease(objects: Objects, *, holder: str, clock: Clock, ttl: timedelta = STREAM_TTL) -> Lease:
    """Return the lease of the stream, for who runs it."""
    return Lease(objects, "stream", holder=holder, ttl=ttl, clock=clock)


def watched_stream_lease(objects: Objects, *, watcher: str, clock: Clock) -> Lease:
    """Return the lease of the stream, for who waits for it before destroying something.

    A silent stream counts as dead after twice the time after which another may take over: whoever deletes what it may
    still write is the more patient.
    """
    return Lease(objects, "stream", holder=watcher, ttl=2 * STREAM_TTL, clock=clock)


def compact_lease(objects: Objects, *, holder: str, clock: Clock) -> Lease:
    """Return the lease of who rewrites the lake's files: compaction and repairs."""
    return Lease(objects, "compact", holder=holder, ttl=COMPACT_TTL, clock=clock)
