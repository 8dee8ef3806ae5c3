"""Builds a model's input for one user and many contents; the part that is equal for all users is built once. (pure)

`model_columns` returns columns, for a model behind an endpoint and for explanations. `RankingInput` fills the matrix of a
model in this process with exactly the same numbers: columns that depend on contents alone are filled once per release,
and each request adds the columns of its user.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.ranking.catalogue import ContentTable
from inference.ranking.user_features import UserFeatures
from stillpoint.features.declarations import CONTENT_PROFILES
from stillpoint.features.request_time import REQUEST_FEATURES, compute
from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle

Matrix = npt.NDArray[np.float32]

_OF_ONE_CONTENT = frozenset(CONTENT_PROFILES.feature_names) - {"category"}
_BY_CONTENT = tuple(one for one in REQUEST_FEATURES if _OF_ONE_CONTENT & set(one.inputs))
_BY_CATEGORY = tuple(one for one in REQUEST_FEATURES if one not in _BY_CONTENT)


def model_columns(user: UserFeatures, contents: ContentTable) -> dict[str, npt.NDArray[Any]]:
    """Return every column that a model may use: the user's (length 1), the contents' and the request-time features'.

    Request-time features that depend on a content's category alone are computed once per category.
    """
    rows: dict[str, npt.NDArray[Any]] = {**user.columns, **contents.columns}
    first, own = contents.by_category()
    of_categories = compute({**user.columns, "category": contents.columns["category"][first]}, _BY_CATEGORY)
    return rows | compute(rows, _BY_CONTENT) | {name: values[own] for name, values in of_categories.items()}


class RankingInput:
    """One model's input matrix over some contents, one row per content; filled for one user after another."""

    def __init__(self, bundle: ModelBundle, contents: ContentTable) -> None:
        """Fill the columns that are equal for all users.

        Raises:
            ModelRefused: the contents lack a content feature that the model uses.
        """
        places = {name: place for place, name in enumerate(bundle.manifest.feature_order)}
        computed = {one.feature.name for one in REQUEST_FEATURES}
        user_columns = [name for name in bundle.input_columns if name not in contents.columns and name not in computed]
        self._bundle = bundle
        self._contents = contents
        self._needed = frozenset(user_columns)
        self._texts = [
            (name, places[name], {value: code for code, value in enumerate(bundle.manifest.categories[name])})
            for name in user_columns
            if name in bundle.manifest.categories
        ]
        self._numbers = [name for name in user_columns if name not in bundle.manifest.categories]
        self._number_places = [places[name] for name in self._numbers]
        self._by_category = tuple(one for one in _BY_CATEGORY if one.feature.name in places)
        self._category_places = [places[one.feature.name] for one in self._by_category]
        self._by_content = [(one, places[one.feature.name]) for one in _BY_CONTENT if one.feature.name in places]
        self._collaborative = places.get(COLLABORATIVE_SCORE)
        self._factor_rows = bundle.content_rows(contents.ids)
        first, self._own = contents.by_category()
        self._categories = contents.columns["category"][first]
        open_places = [place for name, place in places.items() if name not in contents.columns]
        filled = {name: contents.columns.get(name, np.zeros(1)) for name in bundle.input_columns}
        self._fixed: Matrix = bundle.matrix(filled, content_ids=contents.ids, sequence_id=None)
        self._fixed[:, open_places] = 0.0  # to which a request's values are added

    @classmethod
    def of(cls, bundle: ModelBundle, contents: ContentTable) -> "RankingInput":
        """Return the input of a model over these contents: cached with them, or cut from the cached one of their origin."""
        if contents.origin is not None:
            everything, rows = contents.origin
            return cls.of(bundle, everything)._part(contents, rows)
        return contents.cached((cls, bundle.sha256), lambda: cls(bundle, contents))

    def _part(self, contents: ContentTable, rows: npt.NDArray[np.intp]) -> "RankingInput":
        part = copy(self)
        part._contents = contents
        part._factor_rows, part._own, part._fixed = self._factor_rows[rows], self._own[rows], self._fixed[rows]
        return part

    def fill(self, matrix: Matrix, user: UserFeatures, sequence_id: int | None) -> None:
        """Fill `matrix` (one row per content) with the numbers that `ModelBundle.matrix(model_columns(…))` returns.

        Raises:
            ModelRefused: the sequence id is of another mapping, or the user lacks a column.
        """
        given = user.columns
        if not self._needed <= given.keys():
            self._bundle.select(model_columns(user, self._contents))  # raises, naming the missing columns
        shared = np.zeros((len(self._categories), matrix.shape[1]), np.float32)
        if self._numbers:
            shared[:, self._number_places] = np.concatenate([given[name] for name in self._numbers])
        for name, place, codes in self._texts:
            shared[:, place] = codes.get(given[name][0], np.nan)
        if self._by_category:
            found = compute({**given, "category": self._categories}, self._by_category)
            shared[:, self._category_places] = np.stack(list(found.values()), axis=1)
        np.add(self._fixed, shared[self._own], out=matrix)
        for one, place in self._by_content:
            matrix[:, place] = one.compute({**given, **self._wide()})
        if self._collaborative is not None:
            matrix[:, self._collaborative] = self._bundle.collaborative_scores_of(self._factor_rows, sequence_id)

    def _wide(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the contents' columns. Embeddings of a cached table are in column-major order, which computes faster."""
        if self._contents.origin is not None:
            return self._contents.columns
        return self._contents.cached(
            "wide",
            lambda: {
                name: np.asfortranarray(values, np.float64) if values.ndim == 2 else values
                for name, values in self._contents.columns.items()
            },
        )
