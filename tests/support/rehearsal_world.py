"""Two releases to move between, one live and one its rollback target."""

from release.check import check
from release.context import ReleaseContext
from release.gate import Thresholds
from release.prepare import prepare
from release.switch import switch
from tests.support.release_world import World

RELAXED = Thresholds(
    latency_p99_ms=1000,
    digest_pause_seconds=0.05,
    daily_age_hours=72,
    latency_reads=20,
    served_unexplained=1_000_000,  # rows made by hand: no events explain them
)


def bring_up(context: ReleaseContext, *, salts: tuple[int, int] = (0, 0)) -> World:
    """Make r0002 live and r0001 its rollback target. Models of other salts give other scores."""
    world = World(context.lake)
    world.fill()
    world.catalogue()
    for version, salt in zip((1, 2), salts, strict=True):
        world.mapping(version)
        release = prepare(context, world.wanted(version, salt=salt))
        assert check(context, release.id, thresholds=RELAXED).passed
        switch(context, release.id, why="first")
    return world
