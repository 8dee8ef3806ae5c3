"""The ranker without one part after the other, on the same rows: what each is worth, and which objective is best."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import xgboost

from benchmarks.standard_evaluation.world import World
from stillpoint.choice_model import CONTENT_APPEAL, CONTEXT_AFFINITY
from stillpoint.model import COLLABORATIVE_SCORE
from training import ranker
from training.evaluate import Estimate
from training.train import evaluate
from training.training_rows import TrainingRows, prepare

REMOVED: dict[str, tuple[str, ...]] = {
    "without fit to the situation": (CONTEXT_AFFINITY,),
    "without fit to the user": (COLLABORATIVE_SCORE,),
    "without any choice model": (CONTEXT_AFFINITY, COLLABORATIVE_SCORE, CONTENT_APPEAL),
    "without search and title cosine": ("search_title_cosine",),
}

Results = Mapping[str, Mapping[str, Mapping[str, Estimate]]]


def ablations(world: World, *, seed: int) -> dict[str, Results]:
    """Return the evaluation of each variant beside the whole ranker, by name."""
    ready = prepare(world.lake, world.snapshot, mapping_version=1, seed=seed)
    whole, truth = _trees(ready, seed), ready.truth(world.lake)
    if truth is None:
        raise ValueError("ablations need a simulated world")
    place = {name: number for number, name in enumerate(ready.columns.order)}
    test = ready.matrix[ready.split.test]
    linear = np.nan_to_num(test[:, place[CONTEXT_AFFINITY]]) + np.where(
        np.isnan(test[:, place[COLLABORATIVE_SCORE]]),
        test[:, place[CONTENT_APPEAL]],
        test[:, place[COLLABORATIVE_SCORE]],
    )
    variants = {"whole ranker": whole, "choice model alone, no trees": linear}
    variants |= {name: _trees(ready, seed, without) for name, without in REMOVED.items()}
    computed = tuple(one.name for one in world.lake.features.request_features)
    variants["without request-time features"] = _trees(ready, seed, computed)
    variants["choice model blind to places"] = _trees(_blind_to_places(ready, seed), seed)
    for objective in ("rank:pairwise", "rank:ndcg"):
        variants[f"objective {objective}"] = _trees(ready, seed, objective=objective)
    rankings = {"ranker": whole, **variants, "true_preference": truth}
    results = evaluate(ready, rankings, seed=seed, best_round=0).results
    return dict.fromkeys(variants, results)


def _blind_to_places(ready: TrainingRows, seed: int) -> TrainingRows:
    choices = ready.choices
    blind = replace(choices, choices=replace(choices.choices, places=np.zeros_like(choices.choices.places)))
    scores = blind.scores_from_earlier(seed=seed)
    return replace(ready, matrix=ranker.matrix_of(ready.rows, ready.columns, scores, ready.categories))


def _trees(ready: TrainingRows, seed: int, without: tuple[str, ...] = (), objective: str | None = None) -> np.ndarray:
    matrix, labels, split = ready.matrix, ready.labels, ready.split
    if objective is None:
        made = ranker.train_ranker(
            matrix[split.train],
            labels[split.train],
            ready.columns,
            seed=seed,
            stop=(matrix[split.stop], labels[split.stop]),
            without=without,
        )
        return ranker.predict(made, matrix[split.test], ready.columns, without)
    lists = ready.rows["recommendation_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    learned, watched = (
        _grouped(ready.columns, matrix[part], labels[part], lists[part]) for part in (split.train, split.stop)
    )
    parameters = ranker.PARAMETERS | {"seed": seed, "objective": objective, "eval_metric": "ndcg@3"}
    made = xgboost.train(
        parameters,
        learned,
        ranker.MAXIMUM_ROUNDS,
        evals=[(watched, "stop")],
        early_stopping_rounds=ranker.PATIENCE,
        verbose_eval=False,
    )
    return ranker.predict(made, matrix[split.test], ready.columns)


def _grouped(
    columns: ranker.ModelColumns, matrix: np.ndarray, labels: np.ndarray, lists: np.ndarray
) -> xgboost.DMatrix:
    order = np.argsort(lists, kind="stable")
    types = ["c" if name in columns.texts else "float" for name in columns.order]
    return xgboost.DMatrix(
        matrix[order], labels[order], qid=lists[order], feature_types=types, enable_categorical=True, nthread=2
    )
