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
import xgboost
from pydantic import BaseModel, ConfigDict

from stillpoint.catalogue import DATASET, newest_rows
from stillpoint.lake.tables import Lake
from stillpoint.model import ModelBundle, ModelManifest
from stillpoint.snapshots import Snapshot
from training import collaborative, item_to_item, ranker
from training.choices import FittedChoices
from training.evaluate import Estimate, JudgedRows, calibration_error, codes, compare, coverage, gaps, score_lists
from training.training_rows import TrainingRows, prepare

AT = 3
DEPTHS = (AT, 10)
GAP_COLUMNS = {"gender": "gender", "locale": "locale", "tenure": "tenure_level"}
"""Attributes of users by which a model's service is compared, with their columns."""


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
    gaps: dict[str, Estimate] = {}
    judged_lists: dict[str, float] = {}
    """NDCG@3 of the ranker by list, of the latest lists with a success: a later model is compared on the same ones."""

    def metrics(self) -> dict[str, float]:
        """Return the overall figures by name, for a release record and for MLflow."""
        found = {
            f"{ranking}_{metric.replace('@', '_at_')}": estimate.value
            for ranking, metrics in self.results["all"].items()
            for metric, estimate in metrics.items()
            if estimate.lists
        }
        for attribute, gap in self.gaps.items():
            if gap.lists:
                found |= {
                    f"gap_{attribute}": gap.value,
                    f"gap_{attribute}_low": gap.low,
                    f"gap_{attribute}_high": gap.high,
                }
        return found | {"calibration_error": self.calibration_error, "coverage": self.coverage["ranker"]}


@dataclass(frozen=True, slots=True)
class JudgedModels:
    """The models that were evaluated: fitted without the test part. `slow` has no real-time features; None without baselines."""

    ranker: ModelBundle
    slow: xgboost.Booster | None
    test: np.ndarray


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A trained model bundle with its collaborative factors and its evaluation."""

    bundle: ModelBundle
    factors: collaborative.Factors
    evaluation: Evaluation
    judged: "JudgedModels"

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
    manifest = snapshot.manifest
    progress("choice model")
    ready = prepare(lake, snapshot, mapping_version=mapping_version, seed=seed)
    matrix, labels, split = ready.matrix, ready.labels, ready.split
    columns = ready.columns
    progress("ranker")
    stop = (matrix[split.stop], labels[split.stop])
    judged = ranker.train_ranker(matrix[split.train], labels[split.train], columns, seed=seed, stop=stop)
    rankings = {"ranker": ranker.predict(judged, matrix[split.test], columns)}
    slow = None
    if with_baselines:
        progress("baselines")
        slow = ranker.train_ranker(
            matrix[split.train], labels[split.train], columns, seed=seed, stop=stop, without=columns.real_time
        )
        rankings |= _baselines(slow, matrix[split.test], columns)
        rankings["item_to_item"] = _session_baseline(ready)
    truth = ready.truth(lake)
    if truth is not None:
        rankings["true_preference"] = truth
    progress("evaluation")
    evaluation = evaluate(ready, rankings, seed=seed, best_round=judged.best_iteration + 1)
    progress("final fit")
    final = ranker.train_ranker(matrix, labels, columns, seed=seed, rounds=judged.best_iteration + 1)
    signature = ModelManifest(
        feature_order=columns.order,
        categories=ready.categories,
        encoder_sha256=manifest.encoder_sha256,
        mapping_version=mapping_version,
        definitions_sha256=manifest.definitions_sha256,
        snapshot_id=manifest.id,
        popular=_popular(ready.plays, ready.rows, _withheld(lake, manifest.cutoff)),
        created_at=manifest.cutoff,
        data=manifest.data,
        metrics=evaluation.metrics(),
    )

    def bundled(trees: xgboost.Booster, learned: FittedChoices) -> ModelBundle:
        return ModelBundle(
            signature,
            ranker=bytes(trees.save_raw("ubj")),
            user_factors=learned.users,
            content_factors=learned.contents,
            content_ids=ready.content_ids,
            choices=ready.choices.model(learned),
        )

    fitted = ready.choices.fitted(seed=seed)
    before = ready.choices.fitted(seed=seed, until_us=int(ready.moments[split.test].min()))
    models = JudgedModels(bundled(judged[: judged.best_iteration + 1], before), slow, split.test)
    factors = collaborative.Factors(ready.user_ids, ready.content_ids, fitted.users, fitted.contents)
    return TrainedModel(bundled(final, fitted), factors, evaluation, models)


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


def _baselines(slow: xgboost.Booster, test: np.ndarray, columns: ranker.ModelColumns) -> dict[str, np.ndarray]:
    """Return the scores of the baselines that the ranker must beat."""
    place = {name: number for number, name in enumerate(columns.order)}
    return {
        "without_real_time": ranker.predict(slow, test, columns, columns.real_time),
        "collaborative": test[:, place["collaborative_score"]].astype(np.float64),
        "popularity": test[:, place["plays_7d"]].astype(np.float64),
    }


def _session_baseline(ready: TrainingRows) -> np.ndarray:
    """Return the scores of the test part by nearness to the user's last plays, learned from what came before it."""
    test, moments = ready.test_rows, ready.moments[ready.split.test]
    shown = pl.DataFrame(
        {"user_id": test["user_id"].to_pylist(), "content_id": test["content_id"].to_pylist(), "at_us": moments}
    )
    return item_to_item.scores(ready.plays, shown, until_us=int(moments.min()))


def worth(evaluation: Evaluation) -> str:
    """Return what the model's figure is worth: its interval, its share of the ceiling, and its baselines."""
    overall = evaluation.results["all"]
    told = {name: metrics[f"ndcg@{AT}"] for name, metrics in overall.items()}
    model = told.pop("ranker")
    ceiling = told.pop("true_preference", None)
    text = f"NDCG@{AT} {model.value:.3f} ({model.low:.3f} to {model.high:.3f})"
    if ceiling is not None and ceiling.value > 0:
        text += f", {model.value / ceiling.value:.0%} of the ceiling {ceiling.value:.3f}"
    beside = ", ".join(f"{name.replace('_', ' ')} {one.value:.3f}" for name, one in told.items())
    return f"{text}; {beside}" if beside else text


def evaluate(ready: TrainingRows, rankings: dict[str, np.ndarray], *, seed: int, best_round: int) -> Evaluation:
    """Judge rankings of the test part, each an array of scores; the first is the one whose calibration is told."""
    test, labels = ready.test_rows, ready.labels[ready.split.test]
    judged = JudgedRows(
        list_id=codes(test["recommendation_id"].to_numpy(zero_copy_only=False).astype(str)),
        user=codes(test["user_id"].to_numpy(zero_copy_only=False).astype(str)),
        content=codes(test["content_id"].to_numpy(zero_copy_only=False).astype(str)),
        label=labels,
    )
    latest = score_lists(judged, next(iter(rankings.values())), k=AT)
    names = np.unique(test["recommendation_id"].to_numpy(zero_copy_only=False).astype(str))
    return Evaluation(
        data=ready.manifest.data,
        snapshot_id=ready.manifest.id,
        seed=seed,
        train_rows=int(ready.split.train.sum()),
        test_rows=int(ready.split.test.sum()),
        best_round=best_round,
        results=compare(judged, rankings, groups_of(test), ks=DEPTHS, seed=seed),
        coverage={name: coverage(judged, scores, k=AT) for name, scores in rankings.items()},
        calibration_error=calibration_error(next(iter(rankings.values())), labels),
        ceiling_known="true_preference" in rankings,
        judged_lists=dict(zip(names[latest.list_id].tolist(), latest.ndcg.tolist(), strict=True)),
        gaps=gaps(
            judged,
            next(iter(rankings.values())),
            {
                name: test[column].to_numpy(zero_copy_only=False)
                for name, column in GAP_COLUMNS.items()
                if column in test.schema.names
            },
            k=AT,
            seed=seed,
        ),
    )


def groups_of(rows: pa.Table) -> dict[str, np.ndarray]:
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
