"""What the stream has done lately, from the commits that it made: verdicts, events a second, how long ago. (pure)"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from stillpoint.clock import from_micros
from stillpoint.events.types import Verdict
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake

WINDOW = timedelta(minutes=15)
STEP = timedelta(seconds=15)
WRITER = "stream-"


@dataclass(frozen=True, slots=True)
class StreamWork:
    """The stream's commits of the last quarter of an hour: `per_second` in steps of 15 s, oldest first."""

    verdicts: tuple[tuple[str, int], ...]
    lately: tuple[tuple[str, int], ...]
    per_second: tuple[float, ...]
    events_per_second: float
    last_commit: datetime | None
    newest_arrival: datetime | None
    batches: int

    @property
    def quarantined_share(self) -> float | None:
        """The share of the last quarter of an hour's records that were quarantined; None without records."""
        counted = dict(self.lately)
        total = sum(counted.values())
        return counted.get(Verdict.QUARANTINED.value, 0) / total if total else None


def stream_work(lake: Lake, now: datetime) -> StreamWork:
    """Read the stream's commits."""
    return summed([one for one in lake.commits() if isinstance(one, Commit) and one.writer.startswith(WRITER)], now)


def summed(commits: Sequence[Commit], now: datetime) -> StreamWork:
    """Return what commits tell, as of `now`."""
    ever: Counter[str] = Counter()
    lately: Counter[str] = Counter()
    steps = [0] * round(WINDOW / STEP)
    batches = 0
    for commit in commits:
        counts = _verdicts(commit)
        ever.update(counts)
        age = now - commit.at
        if timedelta(0) <= age < WINDOW:
            lately.update(counts)
            steps[-1 - int(age / STEP)] += sum(counts.values())
            batches += 1
    arrivals = [one for commit in commits if isinstance(one := commit.properties.get("newest_arrival_us"), int) and one]
    per_step = STEP.total_seconds()
    return StreamWork(
        verdicts=_ordered(ever),
        lately=_ordered(lately),
        per_second=tuple(count / per_step for count in steps),
        events_per_second=sum(steps[-4:]) / (4 * per_step),
        last_commit=max((commit.at for commit in commits), default=None),
        newest_arrival=from_micros(max(arrivals)) if arrivals else None,
        batches=batches,
    )


def _verdicts(commit: Commit) -> dict[str, int]:
    return {
        name.removeprefix("verdict_"): count
        for name, count in commit.properties.items()
        if name.startswith("verdict_") and isinstance(count, int)
    }


def _ordered(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple((verdict.value, counts.get(verdict.value, 0)) for verdict in Verdict)
