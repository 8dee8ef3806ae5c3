"""Limits the rate of a fill, so that it does not slow down serving."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one view's fill is. `total` counts the entities known so far, `seconds` since the view's first row."""

    view: str
    rows: int
    total: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds for the remaining rows at the rate so far; None before the first row."""
        return (self.total - self.rows) / self.rows_per_second if self.rows_per_second else None


Pace = Callable[[Progress], float]
"""Called before each batch: returns how many seconds to wait before asking again; 0 starts the batch."""


def at_most(rows_per_second: float) -> Pace:
    """Return a pace that keeps the mean rate below a limit."""
    return lambda progress: max(0.0, progress.rows / rows_per_second - progress.seconds)


def while_absent(pause_file: Path) -> Pace:
    """Return a pace that waits while a file exists, so that `touch` pauses a fill."""
    return lambda progress: 0.2 if pause_file.exists() else 0.0


def slowest(paces: list[Pace]) -> Pace:
    """Return a pace that waits as long as the slowest of the given paces."""
    return lambda progress: max((pace(progress) for pace in paces), default=0.0)


def wait_for(pace: Pace, progress: Callable[[], Progress], sleep: Callable[[float], None] = time.sleep) -> None:
    """Block until the pace allows the next batch."""
    while (seconds := pace(progress())) > 0:
        sleep(seconds)
