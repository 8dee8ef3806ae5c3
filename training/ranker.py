"""Trains the ranker: XGBoost over a snapshot's columns and the scores of the choice model."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import xgboost

from stillpoint.app.feature_set import FeatureSet
from stillpoint.choice_model import CHOICE_FEATURES, CONTENT_APPEAL, CONTEXT_AFFINITY
from stillpoint.clock import from_micros
from stillpoint.dtypes import DType
from stillpoint.errors import DataRefused
from stillpoint.model import COLLABORATIVE_SCORE
from training.choice_rows import ChoiceScores

PARAMETERS: dict[str, object] = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "tree_method": "hist",
    "max_depth": 6,
    "eta": 0.12,
    "subsample": 0.8,
    "colsample_bytree": 0.7,
    "min_child_weight": 8,
    "lambda": 2.0,
    "max_bin": 64,
    "nthread": 2,
}
MAXIMUM_ROUNDS = 250
PATIENCE = 15


@dataclass(frozen=True, slots=True)
class ModelColumns:
    """The columns of a model, in order; `texts` are categories, `real_time` those that change within a session.

    The baseline `without real-time features` is trained without `real_time`.
    """

    order: tuple[str, ...]
    texts: frozenset[str]
    real_time: frozenset[str]

    @classmethod
    def of(cls, features: FeatureSet) -> "ModelColumns":
        """Return the columns that an app's features give."""
        computed = features.request_features
        order = (
            *(one.name for one in features.scalars),
            *(one.name for one in computed),
            *CHOICE_FEATURES,
            COLLABORATIVE_SCORE,
        )
        streamed = {feature.name for view in features.streamed for feature in view}
        streamed |= {f"{view.name}_age_seconds" for view in features.streamed}
        return cls(
            order=order,
            texts=frozenset(one.name for one in features.scalars if one.dtype is DType.STRING),
            real_time=frozenset({CONTEXT_AFFINITY, *(name for name in order if name in streamed)})
            | {one.name for one in computed if streamed & set(one.inputs)},
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Masks over rows by time: the earliest to train on, the next for early stopping, the latest to evaluate on."""

    train: np.ndarray
    stop: np.ndarray
    test: np.ndarray


def split_by_time(moments: np.ndarray, *, stop: float = 0.1, test: float = 0.2) -> Split:
    """Return the masks over rows; rows with equal times are never separated."""
    first_stop, first_test = np.quantile(moments, [1 - stop - test, 1 - test])
    return Split(
        train=moments < first_stop, stop=(moments >= first_stop) & (moments < first_test), test=moments >= first_test
    )


def refuse_leaks(split: Split, rows: pa.Table) -> None:
    """Make sure that no list is in two parts of a split, and that no part begins before the one before it ends.

    Raises:
        DataRefused: names the parts, and a list or the times.
    """
    moments = rows["event_timestamp"].cast(pa.int64()).to_numpy()
    lists = rows["recommendation_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    parts = {"training": split.train, "early stopping": split.stop, "test": split.test}
    for (earlier, before), (later, after) in pairwise(parts.items()):
        if not before.any() or not after.any():
            continue
        if moments[before].max() >= moments[after].min():
            raise DataRefused(
                f"the {earlier} part ends at {from_micros(int(moments[before].max()))} and the {later} part begins at "
                f"{from_micros(int(moments[after].min()))}: a model would learn from what it is judged by; split by time"
            )
        shared = np.intersect1d(lists[before], lists[after])
        if len(shared):
            raise DataRefused(
                f"list {rows['recommendation_id'][int(np.flatnonzero(lists == shared[0])[0])]} lies in the {earlier} part and "
                f"in the {later} part ({len(shared)} such lists): a list is shown at one moment; mend its rows' times"
            )


def categories_of(rows: pa.Table, columns: ModelColumns) -> dict[str, tuple[str, ...]]:
    """Return the categories of each text column, sorted."""
    return {
        name: tuple(sorted({value for value in rows[name].unique().to_pylist() if value}))
        for name in columns.order
        if name in columns.texts
    }


def matrix_of(
    rows: pa.Table, columns: ModelColumns, scores: ChoiceScores, categories: dict[str, tuple[str, ...]]
) -> np.ndarray:
    """Return the model's matrix: float32 (n, features) in the columns' order, texts as category codes, NaN for null."""
    matrix = np.empty((rows.num_rows, len(columns.order)), dtype=np.float32)
    learned = {
        COLLABORATIVE_SCORE: scores.collaborative,
        CONTEXT_AFFINITY: scores.affinity,
        CONTENT_APPEAL: scores.appeal,
    }
    for place, name in enumerate(columns.order):
        if name in learned:
            matrix[:, place] = learned[name]
        elif name in categories:
            codes = rows[name].combine_chunks().dictionary_encode()
            known = {value: float(code) for code, value in enumerate(categories[name])}
            table = np.array([*(known.get(value, np.nan) for value in codes.dictionary.to_pylist()), np.nan])
            matrix[:, place] = table[codes.indices.fill_null(len(table) - 1).to_numpy()]
        else:
            matrix[:, place] = rows[name].cast(pa.float32()).to_numpy()
    return matrix


def train_ranker(
    matrix: np.ndarray,
    labels: np.ndarray,
    columns: ModelColumns,
    *,
    seed: int,
    stop: tuple[np.ndarray, np.ndarray] | None = None,
    rounds: int = MAXIMUM_ROUNDS,
    without: Sequence[str] | frozenset[str] = (),
) -> xgboost.Booster:
    """Train boosted trees, deterministically; with `stop` rows, until these do not improve any more (early stopping).

    Columns named in `without` are set to NaN, so that the trees cannot use them.
    """
    types = ["c" if name in columns.texts else "float" for name in columns.order]
    blank = [place for place, name in enumerate(columns.order) if name in without]

    def rows(values: np.ndarray, wanted: np.ndarray, like: xgboost.DMatrix | None) -> xgboost.DMatrix:
        if blank:
            values = values.copy()
            values[:, blank] = np.nan
        return xgboost.QuantileDMatrix(
            values, wanted, feature_types=types, enable_categorical=True, max_bin=64, nthread=2, ref=like
        )

    learned = rows(matrix, labels, None)
    watched = [(rows(*stop, learned), "stop")] if stop is not None else []
    return xgboost.train(
        PARAMETERS | {"seed": seed},
        learned,
        rounds,
        evals=watched,
        early_stopping_rounds=PATIENCE if watched else None,
        verbose_eval=False,
    )


def predict(
    booster: xgboost.Booster, matrix: np.ndarray, columns: ModelColumns, without: Sequence[str] | frozenset[str] = ()
) -> np.ndarray:
    """Return the probability of success of each row, from the best round."""
    blank = [place for place, name in enumerate(columns.order) if name in without]
    if blank:
        matrix = matrix.copy()
        matrix[:, blank] = np.nan
    best = booster.best_iteration + 1 if "best_iteration" in booster.attributes() else 0
    scores = booster.inplace_predict(matrix, iteration_range=(0, best), validate_features=False)
    return np.asarray(scores, dtype=np.float64)
