"""Turns a snapshot's rows into the choices that the choice model learns from, and its scores into columns for the ranker.

The rows that the ranker trains on get the scores of fits on earlier lists only, in slices of time, so that no row's own outcome is
among its inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillpoint.app.entities import user
from stillpoint.app.feature_set import FeatureSet, item_of
from stillpoint.app.records import Feature
from stillpoint.choice_model import ChoiceModel, NumberPart, Part, TextPart, VectorPart, encoded
from stillpoint.dtypes import DType
from stillpoint.errors import DataRefused
from stillpoint.features.model_columns import feature_column
from stillpoint.vector_columns import distinct_vectors, is_packed
from training.choices import Choices, FittedChoices, fit

COMPONENTS = 24
HALF_LIFE_SECONDS = 1800.0
"""After how long a streamed vector, such as the last searches, counts half."""
SLICES = 8
_SETTLED_US = 3_600 * 1_000_000
"""How long before a slice a list must have been shown, so that its outcome was settled."""

Columns = dict[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """Columns for the ranker, one value per row; NaN where nothing is known."""

    collaborative: Floats
    affinity: Floats
    appeal: Floats


@dataclass(frozen=True, slots=True)
class ChoiceRows:
    """A snapshot's lists as choices in order of time, and which row of the snapshot each shown row is."""

    choices: Choices
    order: npt.NDArray[np.intp]
    list_of: npt.NDArray[np.intp]
    moments: npt.NDArray[np.int64]
    user_ids: tuple[str, ...]
    content_ids: tuple[str, ...]
    context: tuple[Part, ...]
    content: tuple[Part, ...]

    def fitted(self, *, seed: int, until_us: int | None = None) -> FittedChoices:
        """Return the fit on all lists, or on those that were settled at a moment."""
        lists = len(self.moments) if until_us is None else int(np.searchsorted(self.moments, until_us - _SETTLED_US))
        return fit(self.choices.first(lists), users=len(self.user_ids), seed=seed)

    def model(self, fitted: FittedChoices) -> ChoiceModel:
        """Return the choice model of a fit."""
        return fitted.model(self.context, self.content)

    def scores(self, fitted: FittedChoices, rows: npt.NDArray[np.intp], known: npt.NDArray[np.bool_]) -> ChoiceScores:
        """Return the scores of shown rows (places in time order); `known` says which users the fit saw."""
        lists, contents = self.list_of[rows], self.choices.contents[rows]
        users = self.choices.users[lists]
        wanted = np.einsum("nc,cw->nw", self.choices.context, fitted.weights)
        affinity = np.einsum("nw,nw->n", wanted[lists], self.choices.vectors[contents])
        collaborative = np.einsum("nk,nk->n", fitted.users[users], fitted.contents[contents]).astype(np.float64)
        collaborative[~known[users]] = np.nan
        return ChoiceScores(
            collaborative, affinity.astype(np.float64), fitted.contents[contents, -1].astype(np.float64)
        )

    def scores_from_earlier(self, *, seed: int, slices: int = SLICES) -> ChoiceScores:
        """Return scores for every row of the snapshot, in its order, each from a fit on lists that were settled before its slice.

        Slices hold equal numbers of lists. The first has no earlier lists: NaN.
        """
        count = len(self.order)
        found = ChoiceScores(*(np.full(count, np.nan) for _ in range(3)))
        edges = np.unique(np.quantile(self.moments, np.linspace(0, 1, slices + 1)[1:-1]).astype(np.int64)).tolist()
        ends = [*edges[1:], np.iinfo(np.int64).max]
        for low, high in zip(edges, ends, strict=True):
            earlier = int(np.searchsorted(self.moments, low - _SETTLED_US))
            lists = np.flatnonzero((self.moments >= low) & (self.moments < high))
            if not earlier or not len(lists):
                continue
            part = self.choices.first(earlier)
            fitted = fit(part, users=len(self.user_ids), seed=seed)
            known = np.zeros(len(self.user_ids), bool)
            known[part.users] = True
            rows = np.flatnonzero((self.list_of >= lists[0]) & (self.list_of <= lists[-1]))
            scores = self.scores(fitted, rows, known)
            for name in ("collaborative", "affinity", "appeal"):
                getattr(found, name)[self.order[rows]] = getattr(scores, name)
        return found


def choice_rows(
    rows: pa.Table, features: FeatureSet, user_ids: Sequence[str], content_ids: Sequence[str]
) -> ChoiceRows:
    """Return the rows of a snapshot as choices. Users and contents are numbered as in the given ids.

    Raises:
        DataRefused: the snapshot lacks an embedding that the features declare; it was taken by an earlier version.
    """
    moments = rows["event_timestamp"].cast(pa.int64()).to_numpy()
    _, lists = np.unique(rows["recommendation_id"].to_numpy(zero_copy_only=False).astype(str), return_inverse=True)
    users = _places(rows["user_id"], user_ids)
    owner = lists * np.int64(len(user_ids)) + users  # a list is one user's, even if an id came twice
    order = np.lexsort((rows["position"].to_numpy(), owner, moments))
    begins = np.r_[True, np.diff(owner[order]) != 0]
    starts = np.flatnonzero(begins)
    heads = order[starts]
    context, situation = _context(rows, features, heads)
    content, vectors = _content(rows, features, _places(rows["content_id"], content_ids), len(content_ids))
    return ChoiceRows(
        choices=Choices(
            starts=starts,
            users=users[heads],
            contents=_places(rows["content_id"], content_ids)[order],
            places=rows["position"].to_numpy().astype(np.int64)[order],
            labels=rows["label"].to_numpy().astype(np.float32)[order],
            context=situation,
            vectors=vectors,
            taste=sum(len(part.values) for part in content if isinstance(part, TextPart)),
        ),
        order=order,
        list_of=np.cumsum(begins) - 1,
        moments=moments[heads],
        user_ids=tuple(user_ids),
        content_ids=tuple(content_ids),
        context=context,
        content=content,
    )


def _context(
    rows: pa.Table, features: FeatureSet, heads: npt.NDArray[np.intp]
) -> tuple[tuple[Part, ...], npt.NDArray[np.float32]]:
    """Return the parts that encode the real-time columns, learned from the lists, and each list's encoding."""
    lists = rows.take(pa.array(heads))
    parts: list[Part] = []
    found: list[npt.NDArray[np.float32]] = []
    for view in features.streamed:
        if view.entity != user:
            continue
        age = f"{view.name}_age_seconds"
        ages = lists[f"{view.name}_age"].to_numpy()
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                made = replace(_vector_part(lists, feature), age=age, half_life=HALF_LIFE_SECONDS)
                distinct, codes = _vectors(lists, feature)
                steady = replace(made, age="", half_life=0.0).encode({feature.name: distinct})[codes]
                fresh = np.nan_to_num(np.exp2(-ages / HALF_LIFE_SECONDS), nan=0.0).astype(np.float32)
                parts.append(made)
                found.append(fresh[:, None] * steady)
            elif feature.dtype is not DType.STRING:
                values = lists[feature.name].cast(pa.float64()).to_numpy()
                known = values[~np.isnan(values)]
                scale = float(known.std()) if len(known) else 0.0
                number = NumberPart(feature.name, float(known.mean()) if len(known) else 0.0, scale or 1.0)
                parts.append(number)
                found.append(number.encode({feature.name: values}))
    return tuple(parts), np.concatenate([np.zeros((len(heads), 0), np.float32), *found], axis=1)


def _content(
    rows: pa.Table, features: FeatureSet, contents: npt.NDArray[np.int64], count: int
) -> tuple[tuple[Part, ...], npt.NDArray[np.float32]]:
    """Return the parts that encode a content's texts and embeddings, texts first, and each content's encoding by its newest row."""
    newest = np.full(count, -1)
    newest[contents] = np.arange(len(contents))  # rows are in order of time: the last one stays
    table = rows.take(pa.array(newest, mask=newest < 0))  # a content without a row knows nothing
    declared = [one for view in features.of(item_of(features)) for one in view]
    parts: list[Part] = []
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for feature in declared:
        if feature.dtype is DType.STRING:
            values = feature_column(feature.name, feature.dtype, table[feature.name].combine_chunks())
            parts.insert(
                len([one for one in parts if isinstance(one, TextPart)]),
                TextPart(feature.name, tuple(sorted({one for one in values if one}))),
            )
            columns[feature.name] = values
        elif feature.dtype is DType.EMBEDDING:
            parts.append(_vector_part(table, feature))
            distinct, codes = _vectors(table, feature)
            columns[feature.name] = distinct[codes]
    return tuple(parts), encoded(parts, columns) if parts else np.zeros((count, 0), np.float32)


def _vectors(rows: pa.Table, feature: Feature) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    if feature.name not in rows.schema.names or not is_packed(rows.schema.field(feature.name).type):
        raise DataRefused(
            f"the snapshot has no vectors of {feature.name}; it was taken by an earlier version: take a new one"
        )
    return distinct_vectors(rows[feature.name])


def _vector_part(rows: pa.Table, feature: Feature) -> VectorPart:
    """Return the projection on the principal components of a column's distinct vectors, scaled to a mean square of 1."""
    distinct, codes = _vectors(rows, feature)
    used = distinct[np.unique(codes)]
    known = used[~np.isnan(used[:, 0])].astype(np.float64)
    length = distinct.shape[1]
    if len(known) < 2:
        return VectorPart(feature.name, np.zeros(length, np.float32), np.zeros((length, 1), np.float32))
    mean = known.mean(axis=0)
    _, sizes, directions = np.linalg.svd(known - mean, full_matrices=False)
    kept = directions[: min(COMPONENTS, int((sizes > 1e-6).sum()))]
    kept *= np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(axis=1)])[:, None]
    scale = np.sqrt((((known - mean) @ kept.T) ** 2).mean()) or 1.0
    return VectorPart(feature.name, mean.astype(np.float32), (kept.T / scale).astype(np.float32))


def _places(column: pa.ChunkedArray, ids: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return each value's place among the ids."""
    encoded = column.combine_chunks().dictionary_encode()
    places = {one: place for place, one in enumerate(ids)}
    found: npt.NDArray[np.int64] = np.array([places[one] for one in encoded.dictionary.to_pylist()], np.int64)[
        encoded.indices.to_numpy()
    ]
    return found
