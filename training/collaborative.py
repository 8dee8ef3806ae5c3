"""The collaborative filter: alternating least squares over implicit feedback.

Factors are indexed by `sequence_id` only; the mapping from users to sequence ids belongs to one model and lies in
`mappings/<mapping_version>/`. The scores in a ranker's training rows come from fits on earlier interactions, so they do not leak.
"""

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from scipy.sparse import csr_matrix
from threadpoolctl import threadpool_limits

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.clock import from_micros, to_micros
from stillpoint.errors import AlreadyExists
from stillpoint.events.types import EventType, Verdict
from stillpoint.lake.commits import Commit, commit_key
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.snapshot_definition import BOUNCE_POSITION_SECONDS

FACTORS = 16
THREADS = 2
"""Factors of each user and content are solved separately, so the result does not depend on this number, bit for bit."""
MANY_PLAYS = 50_000
"""With fewer interactions one thread is used, since the threads' waiting for each other would take longer."""
_TYPES = (EventType.CONTENT_START, EventType.CONTENT_EXIT, EventType.CONTENT_COMPLETE)


@dataclass(frozen=True, slots=True)
class Factors:
    """A fitted filter: row i of `users` holds the factors of `user_ids[i]`, whose sequence id is i."""

    user_ids: tuple[str, ...]
    content_ids: tuple[str, ...]
    users: np.ndarray
    contents: np.ndarray

    def scores(self, user_ids: np.ndarray, content_ids: np.ndarray) -> np.ndarray:
        """Return one score per pair, float64; NaN for a user or content that the fit did not see."""
        user_places = _places(self.user_ids, user_ids)
        items = _places(self.content_ids, content_ids)
        known = (user_places >= 0) & (items >= 0)
        found = np.full(len(user_places), np.nan)
        found[known] = np.einsum("ij,ij->i", self.users[user_places[known]], self.contents[items[known]])
        return found


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


def fit(plays: pl.DataFrame, *, mapping_version: int, seed: int) -> Factors:
    """Fit the filter on plays, the same bits for the same arguments. Users are ordered by a digest of version and id.

    A sequence id therefore means another user under another mapping, which the guards against mixed mappings rely on.
    """
    user_ids = tuple(sorted(set(plays["user_id"]), key=lambda one: _shuffled(mapping_version, one)))
    content_ids = tuple(sorted(set(plays["content_id"])))
    if not user_ids:
        return Factors((), (), np.zeros((0, FACTORS), np.float32), np.zeros((0, FACTORS), np.float32))
    rows = _places(user_ids, plays["user_id"].to_numpy())
    columns = _places(content_ids, plays["content_id"].to_numpy())
    strength = plays["strength"].to_numpy().astype(np.float32)
    matrix = csr_matrix((strength, (rows, columns)), shape=(len(user_ids), len(content_ids)))
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):
        warnings.simplefilter("ignore")
        from implicit.cpu.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(
            factors=FACTORS,
            regularization=4.0,
            alpha=2.0,
            iterations=12,
            num_threads=THREADS if len(plays) >= MANY_PLAYS else 1,
            random_state=seed,
        )
        model.fit(matrix, show_progress=False)
    return Factors(
        user_ids,
        content_ids,
        np.asarray(model.user_factors, dtype=np.float32),
        np.asarray(model.item_factors, dtype=np.float32),
    )


def scores_from_earlier(
    plays: pl.DataFrame, rows: pa.Table, *, mapping_version: int, seed: int, slices: int = 8
) -> np.ndarray:
    """Return a score per training row, from a fit on plays known before the row's time slice began.

    Slices hold equal numbers of rows. Rows without known plays get NaN, as in the first slice.
    """
    moments = rows["event_timestamp"].cast(pa.int64()).to_numpy()
    users = rows["user_id"].to_numpy(zero_copy_only=False)
    contents = rows["content_id"].to_numpy(zero_copy_only=False)
    edges = np.quantile(moments, np.linspace(0, 1, slices + 1)).astype(np.int64)
    edges[-1] = moments.max() + 1
    found = np.full(len(moments), np.nan)
    for low, high in pairwise(np.unique(edges).tolist()):
        earlier = plays.filter(pl.col("known_us") < low)
        inside = (moments >= low) & (moments < high)
        if len(earlier) and inside.any():
            factors = fit(earlier, mapping_version=mapping_version, seed=seed)
            found[inside] = factors.scores(users[inside], contents[inside])
    return found


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


def _places(names: tuple[str, ...], wanted: np.ndarray) -> np.ndarray:
    places = {name: place for place, name in enumerate(names)}
    return np.fromiter((places.get(name, -1) for name in wanted), dtype=np.int64, count=len(wanted))
