"""Ranking metrics by context and group, with confidence intervals over users.

A list is what was shown at one moment; a ranking is judged by the places that it gives to successes. Confidence intervals come from a
bootstrap over users, since one user's lists are not independent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator

DRAWS = 300
GAP_LISTS = 30
"""With fewer lists a group's mean says nothing about how it is served."""


class Estimate(BaseModel):
    """A mean over lists, its 95 % confidence interval over users, and the number of lists; NaN without lists (JSON: null)."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float
    high: float
    lists: int

    @field_validator("value", "low", "high", mode="before")
    @classmethod
    def _null_is_nan(cls, value: object) -> object:
        return math.nan if value is None else value


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedRows:
    """Rows to evaluate on, as arrays of equal length: list, user, content, and whether the content was a success.

    Ids may be of any sortable type; numbers are compared much faster than texts (`codes`).
    """

    list_id: np.ndarray
    user: np.ndarray
    content: np.ndarray
    label: np.ndarray


@dataclass(frozen=True, slots=True)
class ListScores:
    """Recall@k and NDCG@k per list with at least one success, with the list's user."""

    user: np.ndarray
    list_id: np.ndarray
    recall: np.ndarray
    ndcg: np.ndarray


def codes(ids: np.ndarray) -> np.ndarray:
    """Return whole numbers that are equal, and ordered, exactly as the ids are.

    >>> codes(np.array(["u2", "u1", "u2"])).tolist()
    [1, 0, 1]
    """
    return np.unique(ids, return_inverse=True)[1]


def score_lists(rows: JudgedRows, scores: np.ndarray, *, k: int) -> ListScores:
    """Return recall@k and NDCG@k of each list that has a success. A null score ranks last. Ties are broken by content, not by the
    order shown, and in the same way for every ranking."""
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    _, place, list_of = np.unique(rows.list_id, return_index=True, return_inverse=True)
    order = np.lexsort((_tie_breaker(rows.content), -ranked, list_of))
    owner = list_of[order]
    begins = np.r_[0, np.flatnonzero(np.diff(owner)) + 1]
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    hit = rows.label[order].astype(np.float64)
    count = len(place)
    successes = np.bincount(owner, hit, count)
    top = rank < k
    recall = np.bincount(owner, hit * top, count)
    gain = np.bincount(owner, hit * top / np.log2(rank + 2.0), count)
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2.0))
    some = successes > 0
    best = ideal[np.minimum(successes[some].astype(int), k) - 1]
    return ListScores(
        user=rows.user[place][some],
        list_id=rows.list_id[place][some],
        recall=recall[some] / successes[some],
        ndcg=gain[some] / best,
    )


class Draws:
    """Bootstrap draws of users, made once and used for all values of the same lists."""

    def __init__(self, users: np.ndarray, *, seed: int) -> None:
        """`users` are the owners of the lists. The same users and seed give the same draws."""
        self._lists = len(users)
        if not self._lists:
            return
        _, self._owner = np.unique(users, return_inverse=True)
        counts = np.bincount(self._owner)
        drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), DRAWS)
        self._weights = drawn.astype(np.float64)
        self._drawn_lists = np.maximum(self._weights @ counts, 1)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of per-list values in each draw; there must be lists."""
        return np.asarray((self._weights @ np.bincount(self._owner, values)) / self._drawn_lists)

    def estimate(self, values: np.ndarray) -> Estimate:
        """Return the mean of per-list values with its interval; all NaN without lists."""
        if not self._lists:
            return Estimate(value=np.nan, low=np.nan, high=np.nan, lists=0)
        low, high = np.quantile(self.means(values), [0.025, 0.975])
        return Estimate(value=float(values.mean()), low=float(low), high=float(high), lists=self._lists)


def compare(
    rows: JudgedRows,
    rankings: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
    *,
    ks: Sequence[int],
    seed: int,
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """Return group → ranking → metric. `groups` are masks over rows, constant within a list; `all` is added.

    Metrics are NDCG@k and recall@k for each of `ks`; a recall at which every list fits whole says nothing and is left out.
    Each ranking's lift in NDCG at the first k over the first ranking, list by list on the same users, is in `ndcg_lift`.
    """
    at = {k: {name: score_lists(rows, scores, k=k) for name, scores in rankings.items()} for k in ks}
    longest = int(np.bincount(codes(rows.list_id)).max(initial=0))
    reference = next(iter(at[ks[0]].values()))
    result: dict[str, dict[str, dict[str, Estimate]]] = {}
    for group, mask in {"all": np.ones(len(rows.label), dtype=bool), **groups}.items():
        inside = np.isin(reference.list_id, rows.list_id[mask])
        draws = Draws(reference.user[inside], seed=seed)
        result[group] = {
            name: {
                **{f"recall@{k}": draws.estimate(at[k][name].recall[inside]) for k in ks if k < longest},
                **{f"ndcg@{k}": draws.estimate(at[k][name].ndcg[inside]) for k in ks},
                "ndcg_lift": draws.estimate((at[ks[0]][name].ndcg - reference.ndcg)[inside]),
            }
            for name in rankings
        }
    return result


def gaps(
    rows: JudgedRows, scores: np.ndarray, attributes: Mapping[str, np.ndarray], *, k: int, seed: int
) -> dict[str, Estimate]:
    """Return by attribute how far apart its groups' mean NDCG@k lie: the best served group's minus the worst served one's.

    `attributes` hold a value per row (None: not stated, in no group), constant within a list. Groups of fewer than `GAP_LISTS`
    lists are left out; fewer than two groups give NaN. In each draw of users the same two groups are compared, so that the
    interval holds 0 where the gap may be chance.
    """
    found = score_lists(rows, scores, k=k)
    _, first = np.unique(rows.list_id, return_index=True)
    place = dict(zip(rows.list_id[first].tolist(), first.tolist(), strict=True))
    heads = np.array([place[one] for one in found.list_id.tolist()], np.intp)
    results = {}
    for name, values in attributes.items():
        groups = values[heads]
        means = {
            value: found.ndcg[groups == value].mean()
            for value in sorted({one for one in groups.tolist() if one is not None})
            if (groups == value).sum() >= GAP_LISTS
        }
        if len(means) < 2:
            results[name] = Estimate(value=math.nan, low=math.nan, high=math.nan, lists=0)
            continue
        best, worst = max(means, key=lambda one: means[one]), min(means, key=lambda one: means[one])
        sides = [(groups == value) for value in (best, worst)]
        draws = [
            Draws(found.user[side], seed=seed + number).means(found.ndcg[side]) for number, side in enumerate(sides)
        ]
        low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
        results[name] = Estimate(
            value=float(means[best] - means[worst]),
            low=float(low),
            high=float(high),
            lists=int(sum(map(np.sum, sides))),
        )
    return results


def calibration_error(probability: np.ndarray, label: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: the mean gap between predicted and observed success over bins of equal size; NaN without rows."""
    if not len(probability):
        return math.nan
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(probability[part].mean() - label[part].mean()) * len(part) for part in parts]
    return float(sum(gaps) / len(probability))


def coverage(rows: JudgedRows, scores: np.ndarray, *, k: int) -> float:
    """Return the share of all shown contents that appear among the first k of any list; NaN without rows."""
    if not len(rows.content):
        return math.nan
    order = np.lexsort((_tie_breaker(rows.content), -np.nan_to_num(scores, nan=-np.inf), rows.list_id))
    lists = rows.list_id[order]
    begins = np.r_[0, np.flatnonzero(lists[1:] != lists[:-1]) + 1]
    rank = np.arange(len(order)) - np.repeat(begins, np.diff(np.r_[begins, len(order)]))
    return len(np.unique(rows.content[order][rank < k])) / len(np.unique(rows.content))


def _tie_breaker(content: np.ndarray) -> np.ndarray:
    """Return an order of contents that does not depend on the order in which they were shown."""
    return codes(content)
