"""The service's Prometheus metrics, over all of its processes.

With a folder (prometheus_client's multiprocess mode, which reads `PROMETHEUS_MULTIPROC_DIR` when it is imported) every
process writes its values to files there, and the process that is scraped adds them up. Labels never hold client input.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from inference.live.canaries import CanaryReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5)


class Metrics:
    """One process's metrics. `folder` is None if the service has one process."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.registry = registry = CollectorRegistry()
        self._pid = os.getpid()
        self._released: tuple[str, str] | None = None
        self._newest: dict[str, float] = {}
        self._children: dict[tuple[Any, ...], Any] = {}
        if folder is not None:
            forget_dead(folder)
        self._requests = Histogram(
            "stillpoint_http_seconds",
            "Time to answer, by route and status.",
            ["route", "status"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._stages = Histogram(
            "stillpoint_http_stage_seconds",
            "Time of each stage of an answer.",
            ["route", "stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._sections = Counter(
            "stillpoint_recommendations", "Recommendations answered.", ["source", "kind", "release"], registry=registry
        )
        self._fallbacks = Counter(
            "stillpoint_fallbacks", "Popular contents answered, by reason.", ["reason"], registry=registry
        )
        self._refusals = Counter(
            "stillpoint_guard_refusals", "Predictions that the guard refused.", ["reason"], registry=registry
        )
        self._views = Counter(
            "stillpoint_feature_views", "Views read for predictions, by status.", ["view", "status"], registry=registry
        )
        self._events = Counter("stillpoint_events_received", "Events over HTTP.", ["status"], registry=registry)
        self._saturated = Counter("stillpoint_http_saturated", "Requests turned away at the limit.", registry=registry)
        self._in_flight = Gauge(
            "stillpoint_http_in_flight", "Requests being answered.", multiprocess_mode="livesum", registry=registry
        )
        self._generation = Gauge(
            "stillpoint_release_generation",
            "Generation of the release that a process answers with; 0 for those it answered with before.",
            ["release", "colour"],
            multiprocess_mode="liveall",
            registry=registry,
        )
        self._canaries = Gauge(
            "stillpoint_canaries",
            "Canary users of the release in use, by what a process found of them: right, wrong (another user's row), missing.",
            ["found"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._event_time = Gauge(
            "stillpoint_newest_event_seconds",
            "Newest event time read of each view, in seconds since 1970; now minus this is its freshness.",
            ["view"],
            multiprocess_mode="max",
            registry=registry,
        )

    def answered(self, route: str, status: int, started: float) -> None:
        """Count an answer to a request that began at `started` (perf_counter)."""
        self._child(self._requests, route, str(status)).observe(time.perf_counter() - started)

    def stage(self, route: str, stage: str, started: float) -> float:
        """Count the end of a stage that began at `started`, and return when it ended."""
        ended = time.perf_counter()
        self._child(self._stages, route, stage).observe(ended - started)
        return ended

    def section(self, source: str, kind: str, release: str) -> None:
        self._child(self._sections, source, kind, release).inc()

    def fallback(self, reason: str) -> None:
        self._child(self._fallbacks, reason).inc()

    def refusal(self, reason: str) -> None:
        self._child(self._refusals, reason).inc()

    def event(self, status: str) -> None:
        self._child(self._events, status).inc()

    def saturated(self) -> None:
        self._saturated.inc()

    def in_flight(self, count: int) -> None:
        self._in_flight.set(count)

    def views(self, views: Iterable[Mapping[str, Any]]) -> None:
        """Count the statuses of the views that a prediction read, and export the newest event time of each."""
        for view in views:
            name, moment = view["view"], view["event_timestamp"]
            self._child(self._views, name, view["status"]).inc()
            if moment is not None and (seconds := moment.timestamp()) > self._newest.get(name, 0.0):
                self._newest[name] = seconds
                self._child(self._event_time, name).set(seconds)

    def release(self, release: str, colour: str, generation: int) -> None:
        """Export which release this process answers with."""
        if self._released not in (None, (release, colour)):
            self._generation.labels(*self._released).set(0)
        self._released = (release, colour)
        self._generation.labels(release, colour).set(generation)

    def canaries(self, report: CanaryReport) -> None:
        """Export what a check of the canaries found."""
        wrong, missing = len(report.wrong), report.missing
        for found, count in (("right", report.checked - wrong - missing), ("wrong", wrong), ("missing", missing)):
            self._child(self._canaries, found).set(count)

    def exposition(self) -> bytes:
        """Return the metrics of all processes in Prometheus's text format."""
        if self._folder is None:
            return generate_latest(self.registry)
        forget_dead(self._folder)
        together = CollectorRegistry()
        MultiProcessCollector(together, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def close(self) -> None:
        """Remove this process's gauges from the shared metrics."""
        if self._folder is not None:
            mark_process_dead(self._pid, str(self._folder))  # type: ignore[no-untyped-call]

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


def forget_dead(folder: Path) -> None:
    """Remove the gauges of killed processes from a metrics folder; their counters stay."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not _lives(int(pid)):
            mark_process_dead(int(pid), str(folder))  # type: ignore[no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
