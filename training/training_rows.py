"""Everything that the ranker learns from: a snapshot's rows with the scores of the choice model, split by time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads

from stillpoint.errors import DataRefused
from stillpoint.lake.tables import Lake
from stillpoint.snapshots import Snapshot, SnapshotManifest, definitions_sha256
from training import collaborative, ranker
from training.choice_rows import ChoiceRows, choice_rows

TRUTH_DATASET = "simulation/truth"


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """A snapshot's rows, prepared for training. `matrix` is in the order of `columns`; `plays` are those known at the cutoff."""

    manifest: SnapshotManifest
    rows: pa.Table
    labels: npt.NDArray[np.float32]
    moments: npt.NDArray[np.int64]
    split: ranker.Split
    user_ids: tuple[str, ...]
    content_ids: tuple[str, ...]
    choices: ChoiceRows
    columns: ranker.ModelColumns
    categories: dict[str, tuple[str, ...]]
    matrix: npt.NDArray[np.float32]
    plays: pl.DataFrame

    @property
    def test_rows(self) -> pa.Table:
        return self.rows.filter(pa.array(self.split.test))

    def truth(self, lake: Lake) -> npt.NDArray[np.float64] | None:
        """Return the simulator's true preference for each row of the test part, or None where behaviour was not simulated."""
        if not lake.files(TRUTH_DATASET):
            return None
        rows = self.test_rows
        wanted = pa.array(rows["recommendation_id"].unique().to_pylist())
        known = pl.from_arrow(lake.read(TRUTH_DATASET, where=pads.field("recommendation_id").isin(wanted)))
        asked = pl.from_arrow(rows.select(["recommendation_id", "content_id"]))
        assert isinstance(known, pl.DataFrame)
        assert isinstance(asked, pl.DataFrame)
        joined = asked.join(known, on=["recommendation_id", "content_id"], how="left", maintain_order="left")
        return np.asarray(joined["success_probability"].fill_null(float("nan")).to_numpy())


def prepare(lake: Lake, snapshot: Snapshot, *, mapping_version: int, seed: int) -> TrainingRows:
    """Split a snapshot by time and compute the scores that the ranker learns from, each from earlier lists only.

    Raises:
        DataRefused: the snapshot was taken under other definitions, its split leaks, or its parts hold one class only.
    """
    manifest, rows = snapshot.manifest, snapshot.rows
    columns = ranker.ModelColumns.of(lake.features)
    present = definitions_sha256(lake.features)
    if manifest.definitions_sha256 != present:
        raise DataRefused(
            f"snapshot {manifest.id} was taken under definitions {manifest.definitions_sha256[:12]}; the present ones "
            f"are {present[:12]}: take a new snapshot"
        )
    labels = rows["label"].to_numpy().astype(np.float32)
    moments = rows["event_timestamp"].cast(pa.int64()).to_numpy()
    split = ranker.split_by_time(moments)
    ranker.refuse_leaks(split, rows)
    for name, part in (("training", split.train), ("early stopping", split.stop), ("test", split.test)):
        if not 0 < labels[part].sum() < part.sum():
            raise DataRefused(
                f"the {name} part of snapshot {manifest.id} holds {int(part.sum())} rows with "
                f"{int(labels[part].sum())} successes; expected both classes: take more history"
            )
    user_ids = collaborative.ordered_users(rows["user_id"].unique().to_pylist(), mapping_version=mapping_version)
    content_ids = tuple(sorted(rows["content_id"].unique().to_pylist()))
    choices = choice_rows(rows, lake.features, user_ids, content_ids)
    categories = ranker.categories_of(rows, columns)
    return TrainingRows(
        manifest=manifest,
        rows=rows,
        labels=labels,
        moments=moments,
        split=split,
        user_ids=user_ids,
        content_ids=content_ids,
        choices=choices,
        columns=columns,
        categories=categories,
        matrix=ranker.matrix_of(rows, columns, choices.scores_from_earlier(seed=seed), categories),
        plays=collaborative.interactions(lake, until=manifest.cutoff),
    )
