"""Turns the stream's writes into a colour on and off, and waits until the stream has acknowledged it."""

from release.context import ReleaseContext
from stillpoint.errors import ReleaseRefused
from stillpoint.leases.lease import Epoch
from stillpoint.leases.names import watched_stream_lease
from stillpoint.releases.colour import Colour
from stillpoint.releases.presence import ORDERED, nudge
from stillpoint.releases.write_targets import Control, Target, read_acknowledged, read_control, write_control


def targets_without(control: Control, colour: Colour) -> tuple[Target, ...]:
    """Return the write targets of all colours but one."""
    return tuple(target for target in control.targets if target.colour is not colour)


def aim(context: ReleaseContext, targets: tuple[Target, ...]) -> int:
    """Make these the stream's write targets, wait for its acknowledgement, and return their generation.

    Equal targets are not written again, but waited for all the same, so a killed verb can be repeated.

    Raises:
        ReleaseRefused: a stream runs and does not acknowledge in time; the text names it.
    """
    control = read_control(context.lake.objects)
    if control.targets != targets:
        control = write_control(context.lake.objects, targets)
    if control.generation:
        wait_acknowledged(context, control.generation)
    return control.generation


def stream_holder(context: ReleaseContext) -> Epoch | None:
    """Return the holder of the stream's lease, or None if no stream runs."""
    lease = watched_stream_lease(context.lake.objects, watcher=context.operator, clock=context.clock)
    return lease.holder()


def wait_acknowledged(context: ReleaseContext, generation: int) -> None:
    """Wait until the stream has acknowledged this generation. Without a running stream, return at once.

    A stream that starts later reads the targets before its first batch. One that died is fenced off from the lake, and its successor
    writes its rows again.
    """

    def obeyed() -> bool:
        nudge(context.serving, ORDERED)  # the stream looks by itself every ten seconds only
        acknowledged = read_acknowledged(context.lake.objects)
        if acknowledged is not None and acknowledged.generation >= generation:
            return True
        return stream_holder(context) is None

    if not context.wait_until(obeyed, context.barrier_seconds, every=0.1):
        holder = stream_holder(context)
        name = holder.holder if holder else "the stream"
        acknowledged = read_acknowledged(context.lake.objects)
        found = acknowledged.generation if acknowledged else "none"
        raise ReleaseRefused(
            f"{name} has not obeyed control generation {generation} within {context.barrier_seconds:.0f} s (it acknowledged "
            f"{found}); look at its log, or stop it, and run the same command again"
        )
