"""Trains the ranker: XGBoost over a snapshot's columns and the collaborative score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xgboost

from stillpoint.app.feature_set import FeatureSet
from stillpoint.dtypes import DType
from stillpoint.model import COLLABORATIVE_SCORE

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
        order = (*(one.name for one in features.scalars), *(one.name for one in computed), COLLABORATIVE_SCORE)
        streamed = {feature.name for view in features.streamed for feature in view}
        streamed |= {f"{view.name}_age_seconds" for view in features.streamed}
        return cls(
            order=order,
            texts=frozenset(one.name for one in features.scalars if one.dtype is DType.STRING),
            real_time=frozenset(name for name in order if name in streamed)
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


def categories_of(rows: pa.Table, columns: ModelColumns) -> dict[str, tuple[str, ...]]:
    """Return the categories of each text column, sorted."""
    return {
        name: tuple(sorted({value for value in rows[name].unique().to_pylist() if value}))
        for name in columns.order
        if name in columns.texts
    }


def matrix_of(
    rows: pa.Table, columns: ModelColumns, collaborative: np.ndarray, categories: dict[str, tuple[str, ...]]
) -> np.ndarray:
    """Return the model's matrix: float32 (n, features) in the columns' order, texts as category codes, NaN for null."""
    matrix = np.empty((rows.num_rows, len(columns.order)), dtype=np.float32)
    for place, name in enumerate(columns.order):
        if name == COLLABORATIVE_SCORE:
            matrix[:, place] = collaborative
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
