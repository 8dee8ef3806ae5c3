"""Makes labels from impressions: 1 for each shown content that became a success, else 0."""

from datetime import datetime, timedelta

import polars as pl
import pyarrow as pa

from stillpoint.clock import SECOND, to_micros
from stillpoint.events.types import EventType, Verdict
from stillpoint.snapshot_definition import LabelDefinition

SPINE_KEYS = ("recommendation_id", "user_id", "content_id", "event_timestamp")


LABEL_EVENT_TYPES = (EventType.IMPRESSION, EventType.CONTENT_START, EventType.CONTENT_EXIT)


def label_rows(
    events: pa.Table, *, cutoff: datetime, first: datetime | None = None, definition: LabelDefinition | None = None
) -> pl.DataFrame:
    """Return one row per item shown from `first` until `cutoff` minus the settling time, ordered by time and list.

    `events` are rows of the lake's `events/`; late ones count, since they happened; duplicates do not. Columns: `SPINE_KEYS`,
    `kind`, `position` (from 0) and `label` (0 or 1). Nothing that happened or arrived after `cutoff` has an effect.
    """
    definition = definition or LabelDefinition()
    frame = pl.from_arrow(events)
    assert isinstance(frame, pl.DataFrame)
    known = (
        frame.lazy()
        .filter(
            pl.col("verdict").is_in([Verdict.ON_TIME.value, Verdict.LATE.value]),
            pl.col("type").is_in([kind.value for kind in LABEL_EVENT_TYPES]),
            pl.col("arrived_at") <= cutoff,
            pl.col("event_timestamp") <= cutoff,
        )
        .with_columns(
            pl.col("event_timestamp").cast(pl.Int64).alias("at"), pl.col("arrived_at").cast(pl.Int64).alias("arrived")
        )
        .sort("arrived", "sequence")
        .unique(subset=["user_id", "event_id"], keep="first", maintain_order=True)
        .collect()
    )
    shown = (  # Includes impressions that are left out below: a start after one of them must not count for an earlier impression.
        known.filter(pl.col("type") == EventType.IMPRESSION.value)
        .with_columns(pl.int_ranges(pl.col("items").list.len()).alias("position"))
        .explode("items", "position")
        .rename({"items": "content_id_shown"})
        .unique(subset=["user_id", "event_id", "content_id_shown"], keep="first", maintain_order=True)
        .select(
            "recommendation_id",
            "user_id",
            pl.col("content_id_shown").alias("content_id"),
            "event_timestamp",
            "at",
            "event_id",
            "kind",
            pl.col("position").cast(pl.Int64),
        )
        .sort("at", "user_id", "event_id", "position")
        .with_row_index("row")
    )
    starts = _starts(known, definition)
    credited = starts.join_asof(
        shown.select("user_id", "content_id", "at", "row", pl.col("at").alias("shown_at")),
        on="at",
        by=["user_id", "content_id"],
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,
    ).filter(pl.col("at") - pl.col("shown_at") <= _micros(definition.window))
    successes = credited.filter(~pl.col("bounced")).select("row").unique().with_columns(pl.lit(1).alias("label"))
    return (
        shown.filter(
            pl.col("at") <= to_micros(cutoff - definition.settle), pl.col("at") >= (to_micros(first) if first else 0)
        )
        .join(successes, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("label").fill_null(0).cast(pl.Int8))
        .select(*SPINE_KEYS, "kind", "position", "label")
    )


def _starts(known: pl.DataFrame, definition: LabelDefinition) -> pl.DataFrame:
    """Return each start with whether it was abandoned early, ordered by time."""
    starts = known.filter(pl.col("type") == EventType.CONTENT_START.value).select(
        "user_id", "play_id", "content_id", "at"
    )
    exits = known.filter(
        pl.col("type") == EventType.CONTENT_EXIT.value,
        pl.col("position_seconds") < definition.bounce_position_seconds,
    ).select("user_id", "play_id", pl.col("at").alias("left_at"))
    within = pl.col("left_at").is_between(pl.col("at"), pl.col("at") + _micros(definition.bounce_window))
    return (
        starts.join(exits, on=["user_id", "play_id"], how="left")
        .group_by("user_id", "play_id", "content_id", "at")
        .agg(within.fill_null(False).any().alias("bounced"))
        .sort("at", "user_id", "play_id")
    )


def _micros(span: timedelta) -> int:
    return int(span.total_seconds() * SECOND)
