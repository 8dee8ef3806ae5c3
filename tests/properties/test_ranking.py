"""Retrieval keeps what each of its three views likes best, and everything on a list may be shown."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.ranking.catalogue import ContentTable
from inference.ranking.rank import FREE_SECONDS, Ranking, choose, rank_by_popularity, retrieve
from stillpoint.events.types import Category
from stillpoint.messages import Kind
from tests.support.wellness import FEATURES

CATEGORIES = [str(category) for category in Category]


def catalogue(count: int, seed: int, width: int = 8) -> ContentTable:
    rng = np.random.default_rng(seed)
    categories = rng.choice(CATEGORIES, count).astype(object)
    durations = rng.choice([300.0, 600.0, 601.0, 1200.0], count)
    ids = tuple(f"c{number:05d}" for number in range(count))
    titles = rng.normal(size=(count, width)).astype(np.float32)
    return ContentTable(ids, ids, categories, durations, {"title_embedding": titles, "category": categories}, FEATURES)


def plainly_retrieved(
    pool: ContentTable, search: np.ndarray, collaborative: np.ndarray, by_popularity: list[str], limit: int
) -> list[str]:
    """The obvious way: sort everything by each view, and let them take turns."""
    near = pool.columns["title_embedding"] @ search
    places = {content_id: place for place, content_id in enumerate(by_popularity)}
    lists = [
        sorted((row for row, one in enumerate(pool.ids) if one in places), key=lambda row: places[pool.ids[row]]),
        sorted(np.flatnonzero(~np.isnan(collaborative)).tolist(), key=lambda row: (-collaborative[row], row)),
        sorted(np.flatnonzero(~np.isnan(near)).tolist(), key=lambda row: (-near[row], row)),
    ]
    chosen: list[int] = []
    for turn in itertools.zip_longest(*lists):
        chosen += [row for row in dict.fromkeys(turn) if row is not None and row not in chosen]
        if len(chosen) >= limit:
            break
    return [pool.ids[row] for row in sorted(chosen[:limit] or range(limit))]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.integers(1, 30), st.sets(st.sampled_from(["search", "user"])))
def test_retrieval_equals_the_obvious_way(seed: int, count: int, limit: int, unknown: set[str]) -> None:
    pool, rng = catalogue(count, seed), np.random.default_rng(seed + 1)
    search = np.full(8, np.nan, np.float32) if "search" in unknown else rng.normal(size=8).astype(np.float32)
    collaborative = rng.integers(0, 5, count).astype(np.float64)  # many ties
    collaborative[rng.random(count) < 0.3] = np.nan
    if "user" in unknown:
        collaborative[:] = np.nan
    by_popularity = [pool.ids[row] for row in rng.permutation(count)[: count // 2]]
    found = retrieve(pool, search=search, collaborative=collaborative, by_popularity=by_popularity, limit=limit)
    if count <= limit:
        assert found.ids == pool.ids
    else:
        assert list(found.ids) == plainly_retrieved(pool, search, collaborative, by_popularity, limit)


def test_of_twenty_thousand_the_best_hundred_of_each_view_are_ranked() -> None:
    pool, rng = catalogue(20_000, 1, 256), np.random.default_rng(2)
    search, collaborative = rng.normal(size=256).astype(np.float32), rng.normal(size=20_000)
    by_popularity = [pool.ids[row] for row in rng.permutation(20_000)]
    found = set(retrieve(pool, search=search, collaborative=collaborative, by_popularity=by_popularity).ids)
    near = np.argsort(-(pool.columns["title_embedding"] @ search))
    assert len(found) == 300
    assert {pool.ids[row] for row in near[:99]} <= found
    assert {pool.ids[row] for row in np.argsort(-collaborative)[:99]} <= found
    assert set(by_popularity[:99]) <= found


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(0, 60),
    st.sampled_from(list(Kind)),
    st.booleans(),
    st.integers(1, 20),
    st.floats(0, 1),
)
def test_everything_on_a_list_may_be_shown_and_no_place_stays_empty_needlessly(
    seed: int, count: int, kind: Kind, subscribed: bool, limit: int, share: float
) -> None:
    pool, rng = catalogue(count, seed), np.random.default_rng(seed + 1)
    scores = rng.integers(0, 9, count).astype(np.float64)
    order = np.lexsort((np.arange(count), -scores))
    finished = {one for one in pool.ids if rng.random() < share}
    items = choose(pool, order, scores, kind, subscribed=subscribed, finished=finished, limit=limit)
    rows = [pool.ids.index(item.content_id) for item in items]
    allowed = [
        row for row in order if (subscribed or pool.durations[row] <= FREE_SECONDS) and pool.ids[row] not in finished
    ]
    places = 1 if kind is Kind.NEXT else limit
    assert len(set(rows)) == len(rows) == min(places, len(allowed))
    assert set(rows) <= set(allowed)
    assert rows[:1] == allowed[:1]
    if kind is not Kind.TODAY:
        assert rows == allowed[:places]
        return
    cap = max(1, limit // 2)
    taken = [str(pool.categories[row]) for row in rows]
    fillable = sum(min(cap, sum(pool.categories[row] == one for row in allowed)) for one in CATEGORIES)
    if fillable >= limit:
        assert max((taken.count(one) for one in CATEGORIES), default=0) <= cap


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from(list(Kind)))
def test_the_fallback_is_in_order_of_popularity_with_unknown_contents_last(seed: int, count: int, kind: Kind) -> None:
    pool, rng = catalogue(count, seed), np.random.default_rng(seed + 1)
    by_popularity = [pool.ids[row] for row in rng.permutation(count)[: count // 2]]
    made: Ranking = rank_by_popularity(pool, by_popularity, kind, subscribed=True, finished=(), limit=count)
    shown = [item.content_id for item in made.items]
    if kind is Kind.SLEEP:
        assert {item.category for item in made.items} <= {"sleep", "music"}
        known = [one for one in by_popularity if one in made.candidates]
        assert shown[: len(known)] == known
    if kind is Kind.NEXT and by_popularity:
        assert shown == by_popularity[:1]
