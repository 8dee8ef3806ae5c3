"""Ranks contents for a user and post-processes the list: entitlement, nothing just finished, diversity. (pure)

The model scores the candidates of the kind, in one call for all users of a batch. Post-processing removes contents that
the user may not play or has just finished, and keeps one category from filling the list.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from inference.ranking.catalogue import ContentTable
from inference.ranking.user_features import UserFeatures
from stillpoint.events.types import Category
from stillpoint.messages import Item, Kind

CANDIDATES = 300
FREE_SECONDS = 600.0
CATEGORY_SHARE = 0.5
_SLEEP_KIND = (Category.SLEEP, Category.MUSIC)


class Scorer(Protocol):
    """A model, in process or behind an endpoint."""

    @property
    def waits(self) -> bool:
        """Whether `score` waits for a network, so that an event loop must call it in a thread."""
        ...

    @property
    def mapping_version(self) -> int: ...

    @property
    def popular(self) -> Sequence[str]: ...

    def collaborative_scores(self, content_ids: Sequence[str], sequence_id: int | None) -> npt.NDArray[np.float64]: ...

    def score(self, requests: "Sequence[ScoreRequest]") -> list[npt.NDArray[np.float64]]:
        """Return one array per request, in order: float64 scores, one per content, all from one call of the model.

        Raises:
            ModelRefused: a column that the model takes is missing, or a sequence id is of another mapping.
            StackUnavailable: the model's endpoint returned no scores.
        """
        ...


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A user's features and the contents to score. `sequence_id` None leaves out the collaborative filter."""

    user: UserFeatures
    contents: ContentTable
    sequence_id: int | None


@dataclass(frozen=True, slots=True)
class RankRequest:
    """A list to make: the user's features, the content ids to leave out as just finished, and the longest length."""

    user: UserFeatures
    finished: Collection[str]
    limit: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates with their scores, and the items that remain after post-processing, best first."""

    candidates: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    items: tuple[Item, ...]


def candidates(contents: ContentTable, kind: Kind) -> ContentTable:
    """Return the contents that a kind may show: sleep and music for `sleep`, all for the others."""
    return contents.of_categories(_SLEEP_KIND) if kind is Kind.SLEEP else contents


def retrieve(
    pool: ContentTable,
    *,
    search: npt.NDArray[np.float32],
    collaborative: npt.NDArray[np.float64],
    by_popularity: Sequence[str],
    limit: int = CANDIDATES,
) -> ContentTable:
    """Return up to `limit` contents for the model to rank, in catalogue order; a smaller catalogue is returned whole.

    Three orders are merged in turns: most popular first, best collaborative score first, and nearest to the user's
    searches first (`search` is a (256,) vector). NaN in an order means unknown; such contents come from the other orders.
    """
    if len(pool) <= limit:
        return pool
    preferences: list[npt.NDArray[Any]] = [
        pool.popularity(by_popularity),
        -collaborative,
        -(pool.columns["title_embedding"].astype(np.float32, copy=False) @ search.astype(np.float32, copy=False)),
    ]
    turns = [_least(values, limit) for values in preferences]
    chosen: dict[int, None] = {}
    for turn in itertools.zip_longest(*(rows.tolist() for rows in turns)):
        chosen.update((row, None) for row in turn if row is not None)
        if len(chosen) >= limit:
            break
    return pool.part(np.array(sorted(list(chosen)[:limit]) or range(limit), dtype=np.intp))


def _least(values: npt.NDArray[Any], count: int) -> npt.NDArray[np.intp]:
    """Return the rows of the `count` smallest values, smallest first, ties by row; NaN is left out."""
    known = np.flatnonzero(~np.isnan(values))
    if len(known) > count:
        bound = np.partition(values[known], count - 1)[count - 1]
        known = known[values[known] <= bound]
    return known[np.argsort(values[known], kind="stable")][:count]


def rank(scorer: Scorer, requests: Sequence[RankRequest], contents: ContentTable, kind: Kind) -> list[Ranking]:
    """Return one ranking per request, in order, with one model call for all of them. Ties are ordered by content id."""
    pool = candidates(contents, kind)
    if not len(pool):
        return [Ranking((), np.zeros(0), ()) for _ in requests]
    score_requests = [
        ScoreRequest(request.user, _pool_of(scorer, request.user, pool), request.user.sequence_id)
        for request in requests
    ]
    return [
        Ranking(one.contents.ids, scores, _post_process(one.contents, scores, kind, request))
        for request, one, scores in zip(requests, score_requests, scorer.score(score_requests), strict=True)
    ]


def _pool_of(scorer: Scorer, user: UserFeatures, pool: ContentTable) -> ContentTable:
    if len(pool) <= CANDIDATES:
        return pool
    return retrieve(
        pool,
        search=user.columns["search_embedding"][0],
        collaborative=scorer.collaborative_scores(pool.ids, user.sequence_id),
        by_popularity=scorer.popular,
    )


def _post_process(
    pool: ContentTable, scores: npt.NDArray[np.float64], kind: Kind, request: RankRequest
) -> tuple[Item, ...]:
    order = np.argsort(-scores, kind="stable")
    return choose(
        pool, order, scores, kind, subscribed=request.user.subscribed, finished=request.finished, limit=request.limit
    )


def rank_by_popularity(
    contents: ContentTable,
    by_popularity: Sequence[str],
    kind: Kind,
    *,
    subscribed: bool,
    finished: Collection[str],
    limit: int,
) -> Ranking:
    """Return the fallback ranking: popular contents first, with the same post-processing, and score 0."""
    pool = candidates(contents, kind)
    order = np.argsort(pool.popularity(by_popularity), kind="stable")  # NaN (not in the model's list) sorts last
    scores = np.zeros(len(pool))
    return Ranking(
        pool.ids, scores, choose(pool, order, scores, kind, subscribed=subscribed, finished=finished, limit=limit)
    )


def choose(
    pool: ContentTable,
    order: npt.NDArray[np.intp],
    scores: npt.NDArray[np.float64],
    kind: Kind,
    *,
    subscribed: bool,
    finished: Collection[str],
    limit: int,
) -> tuple[Item, ...]:
    """Return the first `limit` contents in `order` that may be shown; for `next` only the first one.

    Users without a subscription may play contents of up to ten minutes. Just finished contents are left out. In `today`
    no category takes more than half of the list (at least one place), as long as other categories can fill it.
    """
    allowed = (
        row
        for row in order.tolist()
        if (subscribed or pool.durations[row] <= FREE_SECONDS) and pool.ids[row] not in finished
    )
    if kind is Kind.NEXT:
        limit = min(limit, 1)
    chosen = _diverse(pool, allowed, limit) if kind is Kind.TODAY else itertools.islice(allowed, limit)
    return tuple(
        Item(
            content_id=pool.ids[row],
            title=pool.titles[row],
            category=str(pool.categories[row]),
            score=float(scores[row]),
        )
        for row in chosen
    )


def _diverse(pool: ContentTable, allowed: Iterable[int], limit: int) -> list[int]:
    cap = max(1, int(limit * CATEGORY_SHARE))
    taken: dict[str, int] = {}
    chosen: list[int] = []
    passed: list[int] = []
    for row in allowed:
        category = str(pool.categories[row])
        if taken.get(category, 0) < cap:
            taken[category] = taken.get(category, 0) + 1
            chosen.append(row)
            if len(chosen) == limit:
                return chosen
        else:
            passed.append(row)
    return [*chosen, *passed[: limit - len(chosen)]]
