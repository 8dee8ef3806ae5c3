"""The leases that several packages use, each with its time to live."""

from datetime import timedelta

from stillpoint.clock import Clock
from stillpoint.lake.objects import Objects
from stillpoint.leases.lease import Lease

STREAM_TTL = timedelta(seconds=15)
COMPACT_TTL = timedelta(hours=1)
PUBLISH_TTL = timedelta(minutes=10)


def stream_lease(objects: Objects, *, holder: str, clock: Clock, ttl: timedelta = STREAM_TTL) -> Lease:
    """Return the lease of the stream, for the process that runs the stream."""
    return Lease(objects, "stream", holder=holder, ttl=ttl, clock=clock)


def watched_stream_lease(objects: Objects, *, watcher: str, clock: Clock) -> Lease:
    """Return the lease of the stream, for a process that waits for the stream before it deletes something.

    To this process a silent stream counts as dead only after twice the time to live, since it deletes what the stream may
    still write.
    """
    return Lease(objects, "stream", holder=watcher, ttl=2 * STREAM_TTL, clock=clock)


def compact_lease(objects: Objects, *, holder: str, clock: Clock) -> Lease:
    """Return the lease of processes that rewrite the lake's files: compaction and repairs."""
    return Lease(objects, "compact", holder=holder, ttl=COMPACT_TTL, clock=clock)


def publish_lease(objects: Objects, *, holder: str, clock: Clock) -> Lease:
    """Return the lease of processes that publish open tables."""
    return Lease(objects, "publish", holder=holder, ttl=PUBLISH_TTL, clock=clock)
