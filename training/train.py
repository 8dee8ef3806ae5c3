"""Trains a model that can be released from a snapshot.

Both models are fitted and evaluated on the latest part of the snapshot, then fitted again on all of it. The mapping is committed before
the bundle, whose key is its digest, so a model that is only partly written cannot be released.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
from pydantic import BaseModel, ConfigDict

from stillpoint.catalogue import DATASET, newest_rows
from stillpoint.errors import DataRefused
from stillpoint.lake.tables import Lake
from stillpoint.model import ModelBundle, ModelManifest
from stillpoint.snapshots import Snapshot, definitions_sha256
from training import collaborative, ranker
from training.evaluate import Estimate, JudgedRows, calibration_error, codes, compare, coverage

TRUTH_DATASET = "simulation/truth"
AT = 3


class Evaluation(BaseModel):
    """The evaluation on the latest, held-out part of a snapshot. `results` is group → ranking → metric."""

    model_config = ConfigDict(frozen=True)

    data: str
    snapshot_id: str
    seed: int
    train_rows: int
    test_rows: int
    best_round: int
    results: dict[str, dict[str, dict[str, Estimate]]]
    coverage: dict[str, float]
    calibration_error: float
    ceiling_known: bool

    def metrics(self) -> dict[str, float]:
        """Return the overall figures by name, for a release record and for MLflow."""
        found = {
            f"{ranking}_{metric.replace('@', '_at_')}": estimate.value
            for ranking, metrics in self.results["all"].items()
            for metric, estimate in metrics.items()
            if estimate.lists
        }
        return found | {"calibration_error": self.calibration_error, "coverage": self.coverage["ranker"]}


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model bundle with its collaborative factors and its evaluation."""

    bundle: ModelBundle
    factors: collaborative.Factors
    evaluation: Evaluation

    @property
    def importance(self) -> dict[str, float]:
        """The total gain of the trees by feature."""
        return self.bundle.gains()


def train(
    lake: Lake,
    snapshot: Snapshot,
    *,
    mapping_version: int,
    seed: int,
    with_baselines: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> TrainedModel:
    """Fit and evaluate a model. Reads plays from the lake up to the snapshot's cutoff; writes nothing.

    The same snapshot, lake, mapping version and seed give the same bytes.

    Raises:
        DataRefused: the snapshot was taken under other definitions, or its parts hold one class only.
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
    split = ranker.split_by_time(rows["event_timestamp"].cast(pa.int64()).to_numpy())
    for name, part in (("training", split.train), ("early stopping", split.stop), ("test", split.test)):
        if not 0 < labels[part].sum() < part.sum():
            raise DataRefused(
                f"the {name} part of snapshot {manifest.id} holds {int(part.sum())} rows with "
                f"{int(labels[part].sum())} successes; expected both classes: take more history"
            )
    progress("collaborative filter")
    plays = collaborative.interactions(lake, until=manifest.cutoff)
    earlier = collaborative.scores_from_earlier(plays, rows, mapping_version=mapping_version, seed=seed)
    factors = collaborative.fit(plays, mapping_version=mapping_version, seed=seed)
    categories = ranker.categories_of(rows, columns)
    matrix = ranker.matrix_of(rows, columns, earlier, categories)
    progress("ranker")
    stop = (matrix[split.stop], labels[split.stop])
    judged = ranker.train_ranker(matrix[split.train], labels[split.train], columns, seed=seed, stop=stop)
    rankings = {"ranker": ranker.predict(judged, matrix[split.test], columns)}
    if with_baselines:
        progress("baselines")
        rankings |= _baselines(matrix, labels, columns, split, seed)
    truth = _truth(lake, rows.filter(pa.array(split.test)))
    if truth is not None:
        rankings["true_preference"] = truth
    progress("evaluation")
    evaluation = _evaluate(snapshot, split, labels, rankings, seed, judged.best_iteration + 1)
    progress("final fit")
    final = ranker.train_ranker(matrix, labels, columns, seed=seed, rounds=judged.best_iteration + 1)
    bundle = ModelBundle(
        ModelManifest(
            feature_order=columns.order,
            categories=categories,
            encoder_sha256=manifest.encoder_sha256,
            mapping_version=mapping_version,
            definitions_sha256=manifest.definitions_sha256,
            snapshot_id=manifest.id,
            popular=_popular(plays, rows, _withheld(lake, manifest.cutoff)),
            created_at=manifest.cutoff,
            data=manifest.data,
            metrics=evaluation.metrics(),
        ),
        ranker=bytes(final.save_raw("ubj")),
        user_factors=factors.users,
        content_factors=factors.contents,
        content_ids=factors.content_ids,
    )
    return TrainedModel(bundle, factors, evaluation)


def keep(lake: Lake, trained: TrainedModel, *, cutoff: datetime) -> str:
    """Write the mapping, the report and then the bundle to the lake; return the bundle's key. Can be repeated."""
    manifest = trained.bundle.manifest
    collaborative.write_mapping(lake, trained.factors.user_ids, mapping_version=manifest.mapping_version, cutoff=cutoff)
    lake.objects.put(report_key(trained.bundle.sha256), trained.evaluation.model_dump_json(indent=1).encode())
    lake.objects.put(trained.bundle.key, trained.bundle.data)
    return trained.bundle.key


def load_evaluation(lake: Lake, model_sha256: str) -> Evaluation:
    """Return a model's stored evaluation.

    Raises:
        ObjectMissing: there is none.
    """
    return Evaluation.model_validate_json(lake.objects.get(report_key(model_sha256)))


def report_key(model_sha256: str) -> str:
    """Return the key of a model's evaluation."""
    return f"reports/evaluation-{model_sha256[:16]}.json"


def _baselines(
    matrix: np.ndarray, labels: np.ndarray, columns: ranker.ModelColumns, split: ranker.Split, seed: int
) -> dict[str, np.ndarray]:
    """Return the scores of the baselines that the ranker must beat."""
    stop = (matrix[split.stop], labels[split.stop])
    slow = ranker.train_ranker(
        matrix[split.train], labels[split.train], columns, seed=seed, stop=stop, without=columns.real_time
    )
    place = {name: number for number, name in enumerate(columns.order)}
    test = matrix[split.test]
    return {
        "without_real_time": ranker.predict(slow, test, columns, columns.real_time),
        "collaborative": test[:, place["collaborative_score"]].astype(np.float64),
        "popularity": test[:, place["plays_7d"]].astype(np.float64),
    }


def _evaluate(
    snapshot: Snapshot,
    split: ranker.Split,
    labels: np.ndarray,
    rankings: dict[str, np.ndarray],
    seed: int,
    best_round: int,
) -> Evaluation:
    test = snapshot.rows.filter(pa.array(split.test))
    judged = JudgedRows(
        list_id=codes(test["recommendation_id"].to_numpy(zero_copy_only=False).astype(str)),
        user=codes(test["user_id"].to_numpy(zero_copy_only=False).astype(str)),
        content=codes(test["content_id"].to_numpy(zero_copy_only=False).astype(str)),
        label=labels[split.test],
    )
    return Evaluation(
        data=snapshot.manifest.data,
        snapshot_id=snapshot.manifest.id,
        seed=seed,
        train_rows=int(split.train.sum()),
        test_rows=int(split.test.sum()),
        best_round=best_round,
        results=compare(judged, rankings, _groups(test), k=AT, seed=seed),
        coverage={name: coverage(judged, scores, k=AT) for name, scores in rankings.items()},
        calibration_error=calibration_error(rankings["ranker"], judged.label),
        ceiling_known="true_preference" in rankings,
    )


def _groups(rows: pa.Table) -> dict[str, np.ndarray]:
    """Return the contexts and groups of users by which a model is evaluated, as masks over rows."""

    def number(name: str) -> np.ndarray:
        return np.asarray(rows[name].cast(pa.float64()).to_numpy())

    groups = {
        "after a search": number("search_embeddings_age") <= 1_800,
        "exertion rising": number("exertion_rising") == 1,
        "after bounces": number("session_bounce_rate") >= 0.5,
        "new users": rows["tenure_level"].to_numpy(zero_copy_only=False) == "new",
    }
    for name in ("gender", "locale"):
        values = rows[name].to_numpy(zero_copy_only=False)
        for value in sorted({one for one in values if one is not None}):
            groups[f"{name} {value}"] = values == value
    return groups


def _truth(lake: Lake, rows: pa.Table) -> np.ndarray | None:
    """Return the simulator's true preference for each row, or None where behaviour was not simulated."""
    if not lake.files(TRUTH_DATASET):
        return None
    wanted = pa.array(rows["recommendation_id"].unique().to_pylist())
    known = pl.from_arrow(lake.read(TRUTH_DATASET, where=pads.field("recommendation_id").isin(wanted)))
    asked = pl.from_arrow(rows.select(["recommendation_id", "content_id"]))
    assert isinstance(known, pl.DataFrame)
    assert isinstance(asked, pl.DataFrame)
    joined = asked.join(known, on=["recommendation_id", "content_id"], how="left", maintain_order="left")
    return np.asarray(joined["success_probability"].fill_null(float("nan")).to_numpy())


def _popular(plays: pl.DataFrame, rows: pa.Table, withheld: frozenset[str]) -> tuple[str, ...]:
    """Return all contents that were played or shown, the most played first, ties by id, without those not offered at the cutoff."""
    counts: dict[str, float] = dict.fromkeys(rows["content_id"].unique().to_pylist(), 0.0)
    totals: Sequence[tuple[str, float]] = plays.group_by("content_id").agg(pl.col("strength").sum()).rows()
    counts |= dict(totals)
    return tuple(sorted(counts.keys() - withheld, key=lambda one: (-counts[one], one)))


def _withheld(lake: Lake, cutoff: datetime) -> frozenset[str]:
    """Return the contents that the catalogue, as known at the cutoff, did not offer then."""
    known = newest_rows(lake.read(DATASET), until=cutoff)
    return frozenset(row.content_id for row in known if not row.offered_at(cutoff))
