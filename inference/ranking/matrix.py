"""Builds a model's input for one user and many contents; the part that is equal for all users is built once. (pure)

`model_columns` returns columns, for a model behind an endpoint and for explanations. `RankingInput` fills the matrix of a
model in this process with exactly the same numbers: columns that depend on contents alone are filled once per release,
and each request adds the columns of its user.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.ranking.catalogue import ContentTable, group_of
from inference.ranking.user_features import UserFeatures
from stillpoint.app.recommendations import RequestTimeFeature
from stillpoint.choice_model import CHOICE_FEATURES, CONTENT_APPEAL, CONTEXT_AFFINITY
from stillpoint.features.request_time import compute
from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RequestFeatures:
    """The request-time features, apart by what of a content they read: `grouped` read nothing but its group."""

    by_content: tuple[RequestTimeFeature, ...]
    grouped: tuple[RequestTimeFeature, ...]

    @classmethod
    def of(cls, contents: ContentTable) -> "RequestFeatures":
        """Return an app's request-time features, cached with the contents."""

        def divide() -> RequestFeatures:
            features = contents.features
            own = set(contents.columns) - {group_of(features)}
            looking = own | {one.name for one in features.request_features}
            by_content = tuple(one for one in features.request_features if looking & set(one.inputs))
            return cls(by_content, tuple(one for one in features.request_features if one not in by_content))

        return contents.cached(cls, divide)


def model_columns(user: UserFeatures, contents: ContentTable) -> dict[str, npt.NDArray[Any]]:
    """Return every column that a model may use: the user's (length 1), the contents' and the request-time features'.

    Request-time features that depend on a content's group alone are computed once per group.
    """
    rows: dict[str, npt.NDArray[Any]] = {**user.columns, **contents.columns}
    features = RequestFeatures.of(contents)
    first, own = contents.by_group()
    of_groups = compute({**user.columns, **_groups(contents, first)}, features.grouped)
    of_groups = {name: np.broadcast_to(values, len(first))[own] for name, values in of_groups.items()}
    return rows | of_groups | compute(rows | of_groups, features.by_content)


def _groups(contents: ContentTable, first: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[Any]]:
    name = group_of(contents.features)
    return {} if name is None else {name: contents.columns[name][first]}


def _with_inputs(wanted: Sequence[RequestTimeFeature], known: Sequence[RequestTimeFeature]) -> list[RequestTimeFeature]:
    """Return features with all the request-time features that they read."""
    names = {one.name for one in wanted}
    while (
        more := {name for one in known if one.name in names for name in one.inputs}
        & {one.name for one in known} - names
    ):
        names |= more
    return [one for one in known if one.name in names]


class RankingInput:
    """One model's input matrix over some contents, one row per content; filled for one user after another."""

    def __init__(self, bundle: ModelBundle, contents: ContentTable) -> None:
        """Fill the columns that are equal for all users.

        Raises:
            ModelRefused: the contents lack a content feature that the model uses.
        """
        places = {name: place for place, name in enumerate(bundle.manifest.feature_order)}
        features = RequestFeatures.of(contents)
        computed = {*(one.name for one in contents.features.request_features), *CHOICE_FEATURES}
        user_columns = [name for name in bundle.input_columns if name not in contents.columns and name not in computed]
        self._bundle = bundle
        self._contents = contents
        self._choices = bundle.choices if CONTEXT_AFFINITY in places else None
        situation = frozenset() if self._choices is None else self._choices.inputs - contents.columns.keys()
        self._needed = frozenset(user_columns) | situation
        self._texts = [
            (name, places[name], {value: code for code, value in enumerate(bundle.manifest.categories[name])})
            for name in user_columns
            if name in bundle.manifest.categories
        ]
        self._numbers = [name for name in user_columns if name not in bundle.manifest.categories]
        self._number_places = [places[name] for name in self._numbers]
        self._by_group = tuple(one for one in features.grouped if one.name in places)
        self._group_places = [places[one.name] for one in self._by_group]
        self._by_content = [one for one in features.by_content if one.name in places]
        self._by_content = _with_inputs(self._by_content, contents.features.request_features)
        self._content_places = {one.name: places[one.name] for one in self._by_content if one.name in places}
        self._collaborative = places.get(COLLABORATIVE_SCORE)
        self._factor_rows = bundle.content_rows(contents.ids)
        first, self._own = contents.by_group()
        self._groups = _groups(contents, first)
        self._group_count = len(first)
        open_places = [place for name, place in places.items() if name not in contents.columns]
        filled = {name: contents.columns.get(name, np.zeros(1)) for name in bundle.input_columns}
        self._fixed: Matrix = bundle.matrix(filled, content_ids=contents.ids, sequence_id=None)
        self._fixed[:, open_places] = 0.0  # to which a request's values are added
        self._affinity = places.get(CONTEXT_AFFINITY)
        self._vectors = None if self._choices is None else self._choices.content_vectors(contents.columns)
        if self._vectors is not None and CONTENT_APPEAL in places:
            self._fixed[:, places[CONTENT_APPEAL]] = bundle.content_appeal(self._factor_rows, self._vectors)

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
        part._vectors = None if self._vectors is None else self._vectors[rows]
        return part

    def fill(self, matrix: Matrix, user: UserFeatures, sequence_id: int | None) -> None:
        """Fill `matrix` (one row per content) with the numbers that `ModelBundle.matrix(model_columns(…))` returns.

        Raises:
            ModelRefused: the sequence id is of another mapping, or the user lacks a column.
        """
        given = user.columns
        if not self._needed <= given.keys():
            self._bundle.select(
                model_columns(user, self._contents), self._contents.ids
            )  # raises, naming the missing columns
        shared = np.zeros((self._group_count, matrix.shape[1]), np.float32)
        if self._numbers:
            shared[:, self._number_places] = np.concatenate([given[name] for name in self._numbers])
        for name, place, codes in self._texts:
            shared[:, place] = codes.get(given[name][0], np.nan)
        if self._by_group:
            found = compute({**given, **self._groups}, self._by_group)
            shared[:, self._group_places] = np.stack(list(found.values()), axis=1)
        np.add(self._fixed, shared[self._own], out=matrix)
        if self._by_content:
            found = compute({**given, **self._wide()}, self._by_content)
            for name, place in self._content_places.items():
                matrix[:, place] = found[name]
        if self._choices is not None and self._vectors is not None:
            matrix[:, self._affinity] = self._choices.affinity(self._choices.context_weights(given), self._vectors)
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
