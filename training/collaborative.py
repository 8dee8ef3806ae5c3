"""Users' factors and the mapping to their rows.

Factors are indexed by `sequence_id` only; the mapping from users to sequence ids belongs to one model and lies in
`mappings/<mapping_version>/`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.clock import from_micros, to_micros
from stillpoint.errors import AlreadyExists
from stillpoint.events.types import EventType, Verdict
from stillpoint.lake.commits import Commit, commit_key
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.snapshot_definition import BOUNCE_POSITION_SECONDS

_TYPES = (EventType.CONTENT_START, EventType.CONTENT_EXIT, EventType.CONTENT_COMPLETE)


@dataclass(frozen=True, slots=True)
class Factors:
    """Learned factors: row i of `users` holds the factors of `user_ids[i]`, whose sequence id is i."""

    user_ids: tuple[str, ...]
    content_ids: tuple[str, ...]
    users: np.ndarray
    contents: np.ndarray


def interactions(lake: Lake, *, until: datetime) -> pl.DataFrame:
    """Return plays with a strength: 2 for a completed play, 1 for any other, none (no row) for an abandoned one.

    Columns: `user_id`, `content_id`, `known_us` (when the play's outcome had both happened and arrived), `strength`. Only on-time
    events that happened and arrived by `until` count.
    """
    events = lake.read(
        "events",
        DateRange(None, until.date()),
        columns=["user_id", "type", "play_id", "content_id", "position_seconds", "event_timestamp", "arrived_at"],
        where=pads.field("type").isin([kind.value for kind in _TYPES])
        & (pads.field("verdict") == Verdict.ON_TIME.value),
    )
    frame = pl.from_arrow(events)
    assert isinstance(frame, pl.DataFrame)
    known = pl.max_horizontal("event_timestamp", "arrived_at").cast(pl.Int64).alias("known_us")
    abandoned = (pl.col("type") == EventType.CONTENT_EXIT.value) & (
        pl.col("position_seconds") < BOUNCE_POSITION_SECONDS
    )
    return (
        frame.lazy()
        .with_columns(known)
        .filter(pl.col("known_us") <= to_micros(until))
        .group_by("user_id", "play_id", "content_id")
        .agg(
            pl.col("known_us").max(),
            abandoned.any().alias("abandoned"),
            (pl.col("type") == EventType.CONTENT_COMPLETE.value).any().alias("completed"),
        )
        .filter(~pl.col("abandoned"))
        .select("user_id", "content_id", "known_us", (1.0 + pl.col("completed").cast(pl.Float64)).alias("strength"))
        .sort("known_us", "user_id", "content_id")
        .collect()
    )


def ordered_users(user_ids: Iterable[str], *, mapping_version: int) -> tuple[str, ...]:
    """Return users in the order of their sequence ids: by a digest of version and id.

    A sequence id therefore means another user under another mapping, which the guards against mixed mappings rely on.
    """
    return tuple(sorted(set(user_ids), key=lambda one: _shuffled(mapping_version, one)))


def next_mapping_version(lake: Lake) -> int:
    """Return the number after the greatest mapping that the lake ever held."""
    taken = [int(name.removeprefix("mapping-")) for name in lake.writers() if name.startswith("mapping-")]
    return max(taken, default=0) + 1


def write_mapping(lake: Lake, user_ids: Sequence[str], *, mapping_version: int, cutoff: datetime) -> None:
    """Commit each user's sequence id, with the cutoff as event and created time. Can be repeated.

    Raises:
        AlreadyExists: another mapping has this version.
    """
    moment = pa.scalar(to_micros(cutoff), pa.int64())
    count = len(user_ids)
    times = pc.cast(pa.repeat(moment, count), pa.timestamp("us", tz="UTC"))
    table = pa.table(
        [
            pa.array(user_ids, pa.string()),
            times,
            times,
            pa.array(range(count), pa.int64()),
            pa.array([mapping_version] * count, pa.int64()),
        ],
        schema=feature_columns(USER_SEQUENCE),
    )
    writer = f"mapping-{mapping_version}"
    content = hashlib.sha256("\n".join(user_ids).encode()).hexdigest()
    file = lake.write(feature_dataset(USER_SEQUENCE, mapping_version), cutoff.date(), f"{writer}-{content[:16]}", table)
    at = from_micros(to_micros(cutoff))
    commit = Commit(writer=writer, sequence=0, at=at, files=(file,), properties={"users_sha256": content})
    if not lake.commit(commit):
        raise AlreadyExists(
            f"{lake.root}/{commit_key(writer, 0)} is taken by another mapping; a version is never reused, take the next"
        )


def _shuffled(mapping_version: int, user_id: str) -> bytes:
    return hashlib.sha256(f"{mapping_version}:{user_id}".encode()).digest()
