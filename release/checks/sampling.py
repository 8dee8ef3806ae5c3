"""Which entities does the gate look at, and what should they hold according to the lake?"""

import random
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from release.gate import Subject
from stillpoint.clock import to_micros
from stillpoint.features.declarations import View
from stillpoint.lake import DateRange, feature_dataset


@dataclass(frozen=True, slots=True)
class Expected:
    """Sampled rows of a view: `frame` the newest per entity, `moments` the newest per entity and event time."""

    frame: pl.DataFrame
    moments: pl.DataFrame
    key: str

    def __len__(self) -> int:
        return self.frame.height


def expected_rows(subject: Subject, view: View) -> Expected:
    """Return what a sample of a view's entities must hold now: rows that may still be served, chosen by seed."""
    dataset = feature_dataset(view, subject.candidate.release.mapping_version)
    key = view.entity.join_key
    dates = DateRange() if view.ttl is None else DateRange(first=(subject.now - view.ttl).date())
    frame = pl.from_arrow(subject.lake.read(dataset, dates))
    assert isinstance(frame, pl.DataFrame)
    if frame.is_empty():
        return Expected(frame, frame, key)
    if view.ttl is not None:
        frame = frame.filter(pl.col("event_timestamp") >= subject.now - view.ttl + timedelta(seconds=60))
    ids = sorted(frame[key].unique().to_list())
    chosen = random.Random(f"{subject.seed}:{view.name}").sample(ids, min(subject.thresholds.sample, len(ids)))
    moments = (
        frame.filter(pl.col(key).is_in(chosen))
        .sort(key, "event_timestamp", "created_timestamp", maintain_order=True)
        .unique(subset=[key, "event_timestamp"], keep="last", maintain_order=True)
    )
    return Expected(moments.unique(subset=[key], keep="last", maintain_order=True), moments, key)


def micros(frame: pl.DataFrame, column: str) -> list[int]:
    """Return a time column as microseconds since 1970."""
    return [to_micros(moment) for moment in frame[column].to_list()]
