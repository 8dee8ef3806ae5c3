"""What is red: each line says what was found and expected, and which page of the runbook mends it. (pure)"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from console.reading.memory import ServerMemory
from console.reading.queues import Queue
from console.reading.stream import StreamWork
from console.reading.traffic import Traffic
from release.status import ReleaseStatus
from stillpoint.local.stack import ProcessStatus, ServerStatus

STALE = timedelta(minutes=5)
"""As the alert FeaturesAreStale has it."""
QUARANTINED = 0.02
FALLBACKS = 0.05
WAITING = 1_000
FULL = 0.85


@dataclass(frozen=True, slots=True)
class RedLine:
    """Something that is not as it should be. `page` names its page of the runbook; `severe` is worth waking somebody."""

    page: str
    sentence: str
    severe: bool = True


def of_servers(servers: Sequence[ServerStatus], processes: Sequence[ProcessStatus]) -> Iterator[RedLine]:
    """Yield the servers that are down and what a killed run left behind."""
    for server in servers:
        if server.health == "down":
            yield RedLine("ServerDown", f"{server.title} at {server.address} is down.")
    for process in processes:
        if process.health == "left behind":
            yield RedLine(
                "ServerDown", f"{process.role} (process {process.pid}) was left behind by a killed run.", False
            )


def of_release(status: ReleaseStatus) -> Iterator[RedLine]:
    """Yield what is wrong with colours, release, stream and workers."""
    if status.live is None:
        yield RedLine("NoReleaseIsLive", "No release is live: every answer is a fallback.")
    for colour in status.colours:
        if colour.problem:
            yield RedLine("ColourIsBroken", f"{colour.colour}: {colour.problem}", colour.live)
        if colour.live and not colour.served_by:
            yield RedLine("NobodyServes", f"Nobody serves {colour.release}: no service and no worker beats.")
    if status.stream is None:
        yield RedLine("StreamIsDown", "No stream runs: features do not follow the events.")
    lag = status.control_generation - (status.acknowledged_generation or 0)
    if status.stream is not None and lag > 0:
        yield RedLine("StreamLagsBehind", f"The stream has not acknowledged {lag} changes of its write targets.")


def of_stream(work: StreamWork, now: datetime, *, running: bool) -> Iterator[RedLine]:
    """Yield what the stream's own work tells."""
    share = work.quarantined_share
    if share is not None and share > QUARANTINED:
        yield RedLine(
            "QuarantineGrows", f"{100 * share:.1f} % of the records of the last 15 min are quarantined; expected under 2 %.",
            False,
        )  # fmt: skip
    if running and work.newest_arrival is not None and now - work.newest_arrival > STALE:
        minutes = (now - work.newest_arrival) / timedelta(minutes=1)
        yield RedLine(
            "FeaturesAreStale",
            f"The newest event that reached the features arrived {minutes:.0f} min ago; expected under 5 min while "
            "clients send events.",
            False,
        )


def of_queues(found: Sequence[Queue]) -> Iterator[RedLine]:
    """Yield dead letters and queues that nobody empties."""
    for queue in found:
        if queue.dead_letters and queue.waiting:
            yield RedLine("DeadLetters", f"{queue.waiting:,} prediction requests lie in the dead letters.", False)
        elif not queue.dead_letters and queue.waiting > WAITING:
            yield RedLine("QueueGrows", f"{queue.waiting:,} messages wait in {queue.name}; expected under {WAITING:,}.")


def of_memory(found: Sequence[ServerMemory]) -> Iterator[RedLine]:
    """Yield servers that are nearly full, drop keys, or may."""
    for server in found:
        if server.evicted:
            yield RedLine("RedisEvicts", f"Redis at {server.server} has dropped {server.evicted:,} keys by itself.")
        if server.filled is not None and server.filled > FULL:
            yield RedLine(
                "RedisIsFull", f"Redis at {server.server} is {100 * server.filled:.0f} % full; expected under 85 %."
            )


def of_traffic(found: Traffic) -> Iterator[RedLine]:
    """Yield what the service's own counts tell."""
    if found.failed_per_second:
        yield RedLine("ServiceFails", f"The service fails {found.failed_per_second:.1f} requests a second.")
    if found.fallback_share is not None and found.fallback_share > FALLBACKS:
        yield RedLine(
            "FallbacksAreServed",
            f"{100 * found.fallback_share:.1f} % of the answers of the last 15 min were fallbacks; expected under 5 %.",
            False,
        )
    if found.refusals:
        yield RedLine("GuardRefuses", f"The guard has refused {found.refusals:,.0f} predictions in the last 15 min.")
