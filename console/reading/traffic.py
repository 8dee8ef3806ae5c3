"""What the HTTP service and the stream count: rates, sources of answers, and milliseconds by stage. (pure)"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from console.reading.exposition import Exposition, Percentiles, grown, percentiles, rate, rates

WINDOW_SECONDS = 60.0
_ROUTE = "route"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a route or of a micro-batch."""

    where: str
    name: str
    seconds: Percentiles


@dataclass(frozen=True, slots=True)
class Traffic:
    """The service's counts: rates of the last minute, the rest over the readings that are kept; None where none is known."""

    requests_per_second: float | None
    predictions_per_second: float | None
    failed_per_second: float | None
    fallback_share: float | None
    refusals: float
    saturated: float
    in_flight: float
    series: tuple[float, ...]
    releases: tuple[str, ...]
    routes: tuple[Stage, ...]
    stages: tuple[Stage, ...]


def traffic(series: Sequence[Exposition]) -> Traffic | None:
    """Return what the readings of the service tell together; None before the first."""
    if not series:
        return None
    now = series[-1]
    answered = _gained(series, "stillpoint_recommendations_total")
    fallbacks = _gained(series, "stillpoint_recommendations_total", source="fallback")
    errors = [status for status in now.by("stillpoint_http_seconds_count", "status") if status.startswith("5")]
    failed = [rate(series, "stillpoint_http_seconds_count", WINDOW_SECONDS, status=status) for status in errors]
    serving = {
        dict(labels).get("release", "")
        for (name, labels), value in now.samples.items()
        if name == "stillpoint_release_generation" and value > 0
    }
    return Traffic(
        requests_per_second=rate(series, "stillpoint_http_seconds_count", WINDOW_SECONDS),
        predictions_per_second=rate(series, "stillpoint_recommendations_total", WINDOW_SECONDS),
        failed_per_second=sum(one or 0.0 for one in failed) if len(series) > 1 else None,
        fallback_share=fallbacks / answered if answered else None,
        refusals=_gained(series, "stillpoint_guard_refusals_total"),
        saturated=_gained(series, "stillpoint_http_saturated_total"),
        in_flight=now.total("stillpoint_http_in_flight"),
        series=rates(series, "stillpoint_recommendations_total"),
        releases=tuple(sorted(serving)),
        routes=_stages(series, "stillpoint_http_seconds", "status"),
        stages=_stages(series, "stillpoint_http_stage_seconds", "stage"),
    )


def _gained(series: Sequence[Exposition], name: str, **labels: str) -> float:
    """Return what a counter has counted over the readings, restarts of the service left out of account."""
    steps = pairwise(one.total(name, **labels) for one in series)
    return sum(grown(later, earlier) for earlier, later in steps)


def _stages(series: Sequence[Exposition], histogram: str, second: str) -> tuple[Stage, ...]:
    pairs = {
        (held[_ROUTE], held[second])
        for (name, labels) in series[-1].samples
        if name == f"{histogram}_count" and (held := dict(labels)).keys() >= {_ROUTE, second}
    }
    found = (
        (route, name, percentiles(series, histogram, **{_ROUTE: route, second: name})) for route, name in sorted(pairs)
    )
    return tuple(Stage(route, name, one) for route, name, one in found if one is not None)


def batch_stages(series: Sequence[Exposition]) -> tuple[Stage, ...]:
    """Return the stages of the stream's micro-batches, and from a record's arrival until its features were readable."""
    if not series:
        return ()
    names = sorted(series[-1].by("stillpoint_batch_seconds_count", "stage"))
    found = [(name, percentiles(series, "stillpoint_batch_seconds", stage=name)) for name in names]
    found.append(("arrival to readable", percentiles(series, "stillpoint_freshness_seconds")))
    return tuple(Stage("micro-batch", name, one) for name, one in found if one is not None)
