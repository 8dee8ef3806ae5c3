"""Ranks the lists that a candidate was judged by with the live model too, and compares them list by list on the same users."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.clock import to_micros
from stillpoint.errors import CorruptData, ModelRefused, NotFound, ObjectMissing
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.model import NO_SEQUENCE_ID, ModelBundle
from stillpoint.snapshots import load_snapshot
from training.evaluate import Draws, Estimate, JudgedRows, codes, score_lists
from training.snapshot_columns import snapshot_columns
from training.train import AT, load_evaluation

_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class PairedLift:
    """The candidate's NDCG@3 less the live model's over the same lists, and how many users these are of."""

    lift: Estimate
    users: int


def paired(lake: Lake, candidate: ModelBundle, live: ModelBundle, *, seed: int) -> PairedLift | str:
    """Return the paired comparison, or why there is none.

    The lists are those that the candidate was judged by before its final fit, and that were shown after the live model's own cutoff,
    so that neither has learned from them.
    """
    try:
        judged = load_evaluation(lake, candidate.sha256).judged_lists
        rows = load_snapshot(lake, candidate.manifest.snapshot_id).rows
    except (ObjectMissing, NotFound, CorruptData) as error:
        return f"the candidate's evaluation or snapshot cannot be read: {error}"
    lists = rows["recommendation_id"].to_numpy(zero_copy_only=False).astype(str)
    unseen = rows["event_timestamp"].cast(pa.int64()).to_numpy() > to_micros(live.manifest.created_at)
    rows = rows.filter(pa.array(np.isin(lists, list(judged)) & unseen))
    if not rows.num_rows:
        return "the live model has learned from every list that the candidate was judged by"
    try:
        scores = _scores(lake, live, rows)
    except (ModelRefused, KeyError) as error:
        return f"the live model cannot rank the candidate's snapshot: {error}"
    found = score_lists(
        JudgedRows(
            list_id=rows["recommendation_id"].to_numpy(zero_copy_only=False).astype(str),
            user=codes(rows["user_id"].to_numpy(zero_copy_only=False).astype(str)),
            content=codes(rows["content_id"].to_numpy(zero_copy_only=False).astype(str)),
            label=rows["label"].to_numpy().astype(np.float32),
        ),
        scores,
        k=AT,
    )
    gains = np.array([judged[one] for one in found.list_id.tolist()]) - found.ndcg
    return PairedLift(Draws(found.user, seed=seed).estimate(gains), len(np.unique(found.user)))


def _scores(lake: Lake, bundle: ModelBundle, rows: pa.Table) -> np.ndarray:
    mapping = lake.read(feature_dataset(USER_SEQUENCE, bundle.manifest.mapping_version))
    sequence = dict(zip(mapping["user_id"].to_pylist(), mapping["sequence_id"].to_pylist(), strict=True))
    parts = []
    for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
        part = rows.slice(start, _ROWS_AT_ONCE)
        content_ids = part["content_id"].to_pylist()
        columns = bundle.select(snapshot_columns(part), content_ids)
        users = np.array([sequence.get(one, NO_SEQUENCE_ID) for one in part["user_id"].to_pylist()], np.int64)
        parts.append(bundle.score(columns, content_ids=content_ids, sequence_id=users))
    return np.concatenate(parts)
