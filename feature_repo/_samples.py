"""Heart rate and steps of the last ten minutes, and whether both rise: the arithmetic of `biometrics`.

As of t, over the samples in (t − 10 min, t]. Sums are taken over integers (microseconds, and heart rates as multiples
of 2⁻⁴⁸, which every float64 from 25 to 250 is), so mean and slope are the exact values rounded once: the order of
arrival and of addition cannot matter.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import accumulate
from typing import NamedTuple

from stillpoint.clock import MINUTE
from stillpoint.features.streamed.definition import Row

from ._searches import moment_ends

WINDOW_US = 10 * MINUTE
HALF_US = WINDOW_US // 2
RISING_SLOPE = 1.0
RISING_TREND = 20
_UNIT = 1 << 48


class Sample(NamedTuple):
    """One reading of a watch; samples sort by time, then arrival."""

    event_us: int
    arrived_us: int
    heart_rate: float | None
    steps: int | None


def rows(user_id: str, samples: Sequence[Sample], *, since_us: int = -1) -> list[Row]:
    """Return a row for each time of `samples` (sorted) that one which arrived after `since_us` can have changed."""
    times = [one.event_us for one in samples]
    arrivals = [one.arrived_us for one in samples]
    sums = _Sums(samples)
    found = []
    for last in moment_ends(times):
        first = bisect_right(times, times[last] - WINDOW_US)
        created_us = max(arrivals[first : last + 1])
        if created_us > since_us:
            half = bisect_right(times, times[last] - HALF_US)
            found.append((user_id, times[last], created_us, *sums.features(first, half, last + 1)))
    return found


class _Sums:
    """Running integer sums over samples, from which any window's features follow by subtraction, exactly."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        base = samples[0].event_us if samples else 0
        beats = [(one.event_us - base, int(one.heart_rate * _UNIT)) for one in samples if one.heart_rate is not None]
        self._beats = _running(one.heart_rate is not None for one in samples)
        self._times = _running(t for t, _ in beats)
        self._squares = _running(t * t for t, _ in beats)
        self._rates = _running(h for _, h in beats)
        self._products = _running(t * h for t, h in beats)
        self._stepped = _running(one.steps is not None for one in samples)
        self._steps = _running(one.steps or 0 for one in samples)

    def features(
        self, first: int, half: int, end: int
    ) -> tuple[float | None, float | None, int | None, int | None, bool | None]:
        """Return the view's features over samples `first` to `end`, of which those from `half` on are the newer."""
        mean = slope = steps_sum = trend = rising = None
        a, b = self._beats[first], self._beats[end]
        if n := b - a:
            rates = self._rates[b] - self._rates[a]
            mean = rates / (n * _UNIT)
            times = self._times[b] - self._times[a]
            spread = n * (self._squares[b] - self._squares[a]) - times * times
            if spread:
                together = n * (self._products[b] - self._products[a]) - times * rates
                slope = together * MINUTE / (spread * _UNIT)
        if self._stepped[end] > self._stepped[first]:
            steps_sum = self._steps[end] - self._steps[first]
            trend = steps_sum - 2 * (self._steps[half] - self._steps[first])
        if slope is not None and trend is not None:
            rising = slope >= RISING_SLOPE and trend >= RISING_TREND
        return mean, slope, steps_sum, trend, rising


def _running(values: Iterable[int]) -> list[int]:
    return list(accumulate(values, initial=0))


def turns_true(samples: Sequence[Sample], moments_us: set[int]) -> set[int]:
    """Return those of `moments_us` at which `exertion_rising` is true while at the moment before it was not."""
    times = [one.event_us for one in samples]
    sums = _Sums(samples)
    ends = moment_ends(times)

    @cache
    def rising(last: int) -> bool | None:
        half, first = (bisect_right(times, times[last] - length) for length in (HALF_US, WINDOW_US))
        return sums.features(first, half, last + 1)[-1]

    return {
        times[last]
        for before, last in zip([None, *ends], ends, strict=False)
        if times[last] in moments_us and rising(last) and (before is None or not rising(before))
    }


def keep(samples: Sequence[Sample], floor_us: int) -> list[Sample]:
    """Return what later rows need if no sample before `floor_us` can come: those in a window that ends there or later."""
    return [one for one in samples if one.event_us > floor_us - WINDOW_US]
