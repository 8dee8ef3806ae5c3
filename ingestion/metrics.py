"""The receiver's Prometheus metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from ingestion.process_batch import BatchReport
from stillpoint.clock import SECOND

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_FRESHNESS_BUCKETS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)


class StreamMetrics:
    """Counters of the stream, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        register: Any = {"registry": self.registry}
        self._events = Counter("stillpoint_events", "Records by verdict.", ["verdict"], **register)
        self._reasons = Counter(
            "stillpoint_quarantined", "Quarantined records by field at fault.", ["field"], **register
        )
        self._dropped = Counter("stillpoint_unknown_fields", "Unknown fields dropped from good events.", **register)
        self._differing = Counter("stillpoint_differing_duplicates", "Duplicates with another payload.", **register)
        self._rows = Counter("stillpoint_rows", "Rows written online.", ["colour", "view"], **register)
        self._requests = Counter("stillpoint_prediction_requests", "Prediction requests sent.", **register)
        self._seconds = Histogram(
            "stillpoint_batch_seconds", "Time of a micro-batch by stage.", ["stage"], buckets=_BUCKETS, **register
        )
        self._freshness = Histogram(
            "stillpoint_freshness_seconds",
            "From a record's arrival in Kinesis until its features were readable.",
            buckets=_FRESHNESS_BUCKETS,
            **register,
        )
        self._newest = Gauge(
            "stillpoint_newest_event_time_seconds",
            "Newest event time written online, in seconds since 1970; now minus this is the view's freshness.",
            ["colour", "view"],
            **register,
        )
        self._lag = Gauge(
            "stillpoint_shard_lag_seconds", "How far reading is behind a shard's end.", ["shard"], **register
        )
        self._newest_so_far: dict[str, int] = {}
        self._lost = Counter(
            "stillpoint_lost_shards", "Shards that went away before they were read to their end.", **register
        )
        self._failures = Counter("stillpoint_stream_failures", "Failures of the query.", **register)

    def batch(self, report: BatchReport) -> None:
        """Count one micro-batch."""
        for verdict, count in report.verdicts.items():
            self._events.labels(verdict).inc(count)
        for name, count in report.reasons.items():
            self._reasons.labels(name).inc(count)
        for place, count in report.rows.items():
            self._rows.labels(*place.split("/")).inc(count)
        for place, newest_us in report.newest_event_us.items():
            self._newest_so_far[place] = max(newest_us, self._newest_so_far.get(place, newest_us))
            self._newest.labels(*place.split("/")).set(self._newest_so_far[place] / SECOND)
        self._dropped.inc(report.dropped_fields)
        self._differing.inc(report.differing)
        self._requests.inc(report.requests)
        for stage, seconds in report.seconds.items():
            self._seconds.labels(stage).observe(seconds)
        for hundredths, count in report.freshness.items():
            for _ in range(count):
                self._freshness.observe(hundredths / 100)

    def failed(self) -> None:
        """Count a failure of the query."""
        self._failures.inc()

    def lost(self, shards: int) -> None:
        """Count shards that disappeared before they were read to their end."""
        self._lost.inc(shards)

    def lag(self, path: Path) -> None:
        """Set the shards' lag from the file that the source writes; a file that is half written is skipped."""
        try:
            lags = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return
        self.lag_of(lags)

    def lag_of(self, seconds: Mapping[str, float]) -> None:
        """Set the lag of shards, in seconds by shard id."""
        for shard, lag in seconds.items():
            self._lag.labels(shard).set(lag)

    def serve(self, port: int) -> None:
        """Serve the metrics over HTTP on loopback."""
        start_http_server(port, addr="127.0.0.1", registry=self.registry)
