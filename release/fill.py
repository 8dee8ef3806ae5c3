"""Fills a colour: a new registry, Feast's own `materialize`, and a frozen copy of the registry."""

import hashlib
import io
import os
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from feast import FeatureStore

from release.context import ReleaseContext
from stillpoint.app.feature_set import FeatureSet
from stillpoint.app.records import Origin, View
from stillpoint.clock import FUTURE_TOLERANCE
from stillpoint.feast_config import feast_environment
from stillpoint.feast_definitions import define
from stillpoint.feast_store import repo_config
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.objects import open_objects
from stillpoint.lake.tables import Lake
from stillpoint.releases.colour import Colour, project_name
from stillpoint.stores.engine import engine_of
from stillpoint.stores.materialize.pace import Pace, Progress
from stillpoint.stores.reading.compile import compile_plan, definitions_sha256
from stillpoint.stores.reading.plan import ReadPlan

SLACK = timedelta(minutes=5)
"""How much older than its time to live a value may be and still be filled, as a margin for the duration of the fill."""
SLOW_MS = 5.0
"""A fill pauses while one field of the live colour takes longer than this to read, at the 99th percentile."""


@dataclass(frozen=True, slots=True)
class FrozenRegistry:
    """The registry of a release, frozen: its bytes, the read plan compiled from them, and digests."""

    registry: bytes
    plan: ReadPlan
    definitions_sha256: str

    @property
    def registry_sha256(self) -> str:
        return hashlib.sha256(self.registry).hexdigest()


def fresh_registry(context: ReleaseContext, colour: Colour, mapping_version: int) -> None:
    """Delete the colour's registry and apply today's definitions into a new one.

    An emptied colour needs a new registry: Feast keeps the materialized intervals in the old one, and would skip them.
    """
    folder, _, name = context.settings.registry_path(colour).rpartition("/")
    open_objects(folder, context.settings.aws_client_arguments()).delete(name)
    if not folder.startswith("s3://"):
        os.makedirs(folder, exist_ok=True)
    with feast_environment(context.settings, mapping_version):
        store = feature_store(context, colour, mapping_version)
        with warnings.catch_warnings():  # Feast warns each time that on-demand views are experimental
            warnings.simplefilter("ignore", RuntimeWarning)
            store.apply(
                define(context.lake.features, lake_root=context.settings.lake, mapping_version=mapping_version).all()
            )


def feature_store(context: ReleaseContext, colour: Colour, mapping_version: int) -> FeatureStore:
    """Return the colour's own Feast store, bound to one mapping."""
    return FeatureStore(config=repo_config(context.settings, colour, mapping_version=mapping_version))


def fill_range(lake: Lake, view: View, mapping_version: int, *, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the time range in which a view must be filled, or None if the lake has no rows of it.

    A view with a time to live needs only what can still be served; the others need each entity's newest row, however
    old. Event times up to a minute ahead are allowed, so the range ends after `now`.
    """
    days = [file.date for file in lake.files(feature_dataset(view, mapping_version)) if file.rows]
    if not days:
        return None
    end = now + FUTURE_TOLERANCE + timedelta(seconds=1)
    first = datetime.combine(min(days), datetime.min.time(), UTC)
    if view.ttl is not None:
        first = max(first, now - view.ttl - SLACK)
    return (first, end) if first < end else None


def fill_view(
    context: ReleaseContext,
    colour: Colour,
    mapping_version: int,
    view: View,
    *,
    live: Any | None,
    go_on: Callable[[], None] = lambda: None,
) -> None:
    """Fill one view by `feast materialize` from the lake. Newer values that the stream has written are kept.

    `go_on` is called after each chunk of rows, and raises to stop the fill there.
    """
    window = fill_range(context.lake, view, mapping_version, now=context.now())
    if window is None:
        context.progress(f"fill {view.name}: the lake has no rows of it")
        return
    with feast_environment(context.settings, mapping_version):
        store = feature_store(context, colour, mapping_version)
        engine = engine_of(store)
        engine.on_progress = _speak(context, go_on)
        if live is not None:
            engine.pace = considerate(live)
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):  # hides Feast's progress bars; `progress` reports instead
            store.materialize(start_date=window[0], end_date=window[1], feature_views=[view.name])


def considerate(live: Any, *, slow_ms: float = SLOW_MS, timer: Callable[[], float] = time.perf_counter) -> Pace:
    """Return a pace that pauses the fill while the Redis of the live colour answers slowly."""
    recent: deque[float] = deque(maxlen=100)

    def pace(progress: Progress) -> float:
        began = timer()
        live.exists("stillpoint:sentinel:probe")
        recent.append((timer() - began) * 1000)
        worst = sorted(recent)[int(len(recent) * 0.99)] if len(recent) >= 20 else 0.0
        if worst <= slow_ms:
            return 0.0
        recent.clear()  # judge anew after the pause
        return 0.25

    return pace


def _speak(context: ReleaseContext, go_on: Callable[[], None]) -> Callable[[Progress], None]:
    spoken = 0.0

    def speak(progress: Progress) -> None:
        nonlocal spoken
        go_on()
        if progress.seconds - spoken < 1 and progress.rows < progress.total:
            return
        spoken = progress.seconds
        left = progress.seconds_left
        remaining = "" if left is None or progress.rows >= progress.total else f", {left:.0f} s left"
        context.progress(
            f"fill {progress.view}: {progress.rows:,} of {progress.total:,} at {progress.rows_per_second:,.0f}/s{remaining}"
        )

    return speak


def freeze(context: ReleaseContext, colour: Colour, mapping_version: int) -> FrozenRegistry:
    """Return the registry's bytes, the read plan compiled from these bytes, and the digest of its definitions."""
    folder, _, name = context.settings.registry_path(colour).rpartition("/")
    data = open_objects(folder, context.settings.aws_client_arguments()).get(name)
    project = project_name(colour)
    return FrozenRegistry(
        registry=data, plan=compile_plan(data, project), definitions_sha256=definitions_sha256(data, project)
    )


def fill_order(features: FeatureSet) -> list[View]:
    """Return the views in the order in which they are filled: the mapping first, streamed ones last."""
    rank = {Origin.MAPPING: 0, Origin.DAILY: 1, Origin.STREAMED: 2}
    return sorted(features.views, key=lambda view: rank[view.origin])
