"""Prometheus's text format as numbers: counts, their rates between two readings, and percentiles of histograms. (pure)"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Exposition:
    """One scrape, at a time of a clock that never goes back: every sample by name and labels."""

    at: float
    samples: Mapping[tuple[str, Labels], float]

    @classmethod
    def parse(cls, text: str, *, at: float) -> "Exposition":
        found = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        return cls(at, found)

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of this name that carry these labels."""
        wanted = set(labels.items())
        return math.fsum(value for (one, held), value in self.samples.items() if one == name and wanted <= held)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the sums by one label."""
        found: defaultdict[str, float] = defaultdict(float)
        for (one, held), value in self.samples.items():
            if one == name and (key := dict(held).get(label)) is not None:
                found[key] += value
        return dict(found)

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """Return a histogram's cumulative counts by upper bound."""
        wanted = set(labels.items())
        found: defaultdict[float, float] = defaultdict(float)
        for (one, held), value in self.samples.items():
            if one == f"{name}_bucket" and wanted <= held:
                found[float(dict(held)["le"])] += value
        return dict(found)


def grown(now: float, before: float) -> float:
    """Return how far a counter has counted on; a restarted one began at 0."""
    return now - before if now >= before else now


def rate(series: Sequence[Exposition], name: str, seconds: float, **labels: str) -> float | None:
    """Return how many a second a counter has counted in the last `seconds`, None with fewer than two readings."""
    window = [one for one in series if series[-1].at - one.at <= seconds] if series else []
    if len(window) < 2:
        return None
    counted = math.fsum(
        grown(later.total(name, **labels), earlier.total(name, **labels)) for earlier, later in pairwise(window)
    )
    return counted / (window[-1].at - window[0].at)


def rates(series: Sequence[Exposition], name: str, **labels: str) -> tuple[float, ...]:
    """Return a counter's rate between each two readings, oldest first."""
    return tuple(
        grown(later.total(name, **labels), earlier.total(name, **labels)) / max(1e-9, later.at - earlier.at)
        for earlier, later in pairwise(series)
    )


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds below which a share of observations lay, read from a histogram's buckets; `count` observations."""

    p50: float
    p95: float
    p99: float
    count: int


def percentiles(series: Sequence[Exposition], name: str, **labels: str) -> Percentiles | None:
    """Return a histogram's percentiles over the readings; over all since the start if nothing was observed meanwhile."""
    if not series:
        return None
    now, before = series[-1].buckets(name, **labels), series[0].buckets(name, **labels)
    gained = {bound: grown(count, before.get(bound, 0.0)) for bound, count in now.items()}
    counted = gained if gained.get(math.inf, 0) > 0 else now
    total = counted.get(math.inf, 0.0)
    if not total:
        return None
    p50, p95, p99 = (_quantile(sorted(counted.items()), share * total) for share in (0.5, 0.95, 0.99))
    return Percentiles(p50, p95, p99, round(total))


def _quantile(buckets: Sequence[tuple[float, float]], rank: float) -> float:
    """Return the value at a rank by even spread within its bucket, as Prometheus's `histogram_quantile` does."""
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            return low if math.isinf(bound) else low + (bound - low) * (rank - below) / max(1e-12, count - below)
        low, below = bound, count
    return low
