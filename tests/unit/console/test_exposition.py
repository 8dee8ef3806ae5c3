"""Counters, rates and percentiles are read from Prometheus's text as Prometheus itself would."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from console.reading.exposition import Exposition, grown, percentiles, rate, rates
from console.reading.samplers import Sampler
from console.reading.traffic import traffic

NUMBERS = itertools.count()


def scrape(registry, at):
    return Exposition.parse(generate_latest(registry).decode(), at=at)


def test_a_rate_counts_on_over_a_restart_and_needs_two_readings():
    first, second, third = (
        Exposition(float(at), {("n_total", frozenset({("kind", "a")})): value})
        for at, value in ((0, 10.0), (10, 30.0), (20, 5.0))
    )
    assert rate([first], "n_total", 60) is None
    assert rate([first, second], "n_total", 60) == 2.0
    assert rate([first, second, third], "n_total", 60) == pytest.approx(25 / 20)
    assert rates([first, second, third], "n_total") == (2.0, 0.5)
    assert rate([first, second], "n_total", 60, kind="b") == 0.0


@given(st.lists(st.floats(0.0001, 2.0), min_size=1, max_size=200))
def test_percentiles_lie_in_the_bucket_of_the_true_one(seconds):
    bounds = (0.001, 0.01, 0.1, 1.0, 2.5)
    registry = CollectorRegistry()
    name = f"t{next(NUMBERS)}_seconds"  # of its own: in multiprocess mode values live as long as the process
    histogram = Histogram(name, "", ["stage"], buckets=bounds, registry=registry)
    for one in seconds:
        histogram.labels("read").observe(one)
    found = percentiles([scrape(registry, 0.0)], name, stage="read")
    assert found is not None
    assert found.count == len(seconds)
    ordered = sorted(seconds)
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        true = ordered[math.ceil(share * len(ordered)) - 1]
        low = max((one for one in (0.0, *bounds) if one < true), default=0.0)
        high = min(one for one in bounds if one >= true)
        assert low - 1e-9 <= value <= high + 1e-9


def test_a_percentile_is_of_the_last_readings_and_of_all_when_nothing_happened_meanwhile():
    registry = CollectorRegistry()
    histogram = Histogram("t_seconds", "", buckets=(0.01, 1.0), registry=registry)
    histogram.observe(0.5)
    before = scrape(registry, 0.0)
    assert percentiles([before, scrape(registry, 1.0)], "t_seconds").count == 1
    for _ in range(3):
        histogram.observe(0.005)
    found = percentiles([before, scrape(registry, 2.0)], "t_seconds")
    assert (found.count, found.p99 <= 0.01) == (3, True)


def test_fallbacks_before_the_readings_began_are_no_share_of_what_is_answered_now():
    registry = CollectorRegistry()
    answers = Counter("stillpoint_recommendations", "", ["source", "kind", "release"], registry=registry)
    answers.labels("fallback", "today", "r0001").inc(50)
    before = scrape(registry, 0.0)
    assert traffic([before]).fallback_share is None
    answers.labels("model", "today", "r0001").inc(3)
    answers.labels("fallback", "today", "r0001").inc(1)
    found = traffic([before, scrape(registry, 2.0)])
    assert (found.fallback_share, found.predictions_per_second) == (0.25, 2.0)
    assert traffic([]) is None


def test_a_sampler_asks_no_more_often_than_its_step():
    asked, clock = [], iter([0.0, 0.5, 2.0])
    sampler = Sampler(lambda: asked.append(1) or "", monotonic=lambda: next(clock))
    assert [len(sampler.sample()) for _ in range(3)] == [1, 1, 2]
    assert len(asked) == 2
    assert grown(3, 5) == 3
