"""Measures how long one ranking takes as the catalogue grows.

    python benchmarks/ranking.py [--sizes 300,2000,20000] [--requests N]

One user, features at hand: candidates, retrieval, request-time features, one model call, post-processing, in process.
Beside it, in the same run, the same model over the whole catalogue without retrieval, and retrieval alone. Prints a table
and one JSON line; asserts nothing.
"""

import argparse
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import _of_tests  # noqa: F401
import numpy as np
from _results import keep

import inference.ranking.rank
from inference.ranking.catalogue import ContentTable
from inference.ranking.rank import CANDIDATES, RankRequest, rank, retrieve
from inference.ranking.scorers import InProcessScorer
from inference.ranking.user_features import UserFeatures
from stillpoint.app.entities import user
from stillpoint.clock import system_clock, to_micros
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.features.request_time import REQUEST_TIMESTAMP
from stillpoint.messages import Kind
from tests.support import hand_made
from tests.support.wellness import CONTENT_PROFILES, FEATURES


def catalogue(made: ModuleType, count: int) -> ContentTable:
    rng = np.random.default_rng(1)
    rows = made.contents(count)
    categories = np.array([category for _, category, _ in rows], dtype=object)
    durations = np.array([float(seconds) for *_, seconds in rows])
    columns: dict[str, Any] = {
        feature.name: np.full(count, 0.5) for feature in CONTENT_PROFILES if feature.dtype is not DType.EMBEDDING
    }
    columns |= {"category": categories, "duration_seconds": durations}
    columns["title_embedding"] = rng.normal(size=(count, EMBEDDING_LENGTH)).astype(np.float32)
    ids = tuple(content_id for content_id, *_ in rows)
    return ContentTable(ids, ids, categories, durations, columns, FEATURES)


def somebody() -> UserFeatures:
    rng = np.random.default_rng(2)
    columns: dict[str, Any] = {REQUEST_TIMESTAMP: np.array([to_micros(system_clock())], np.int64)}
    for view in FEATURES.of(user):
        columns[f"{view.name}_age_seconds"] = np.array([5.0])
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                columns[feature.name] = rng.normal(size=(1, EMBEDDING_LENGTH)).astype(np.float32)
            elif feature.dtype is DType.STRING:
                columns[feature.name] = np.array([(feature.values or ("f",))[0]], dtype=object)
            else:
                columns[feature.name] = np.array([1.0])
    return UserFeatures("u1", columns, 1, 1, None, ())


def timed(work: Callable[[], Any], requests: int) -> tuple[float, float]:
    """Return median and 99th percentile in milliseconds."""
    for _ in range(3):
        work()
    taken = []
    for _ in range(requests):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1_000)
    return float(np.median(taken)), float(np.quantile(taken, 0.99))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="300,2000,20000")
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    made, user, result = hand_made, somebody(), []
    print(f"{'contents':>9} {'rank p50':>10} {'p99':>8} {'retrieval p50':>14} {'without retrieval p50':>22}   (ms)")
    for size in map(int, arguments.sizes.split(",")):
        contents = catalogue(made, size)
        scorer = InProcessScorer(made.model(contents.ids))
        search = user.columns["search_embedding"][0]

        def ranked(pool: ContentTable = contents, by: InProcessScorer = scorer) -> Any:
            return rank(by, [RankRequest(user, (), 10)], pool, Kind.TODAY)

        def retrieved(pool: ContentTable = contents, by: InProcessScorer = scorer, search: Any = search) -> Any:
            collaborative = by.collaborative_scores(pool.ids, 1)
            return retrieve(pool, search=search, collaborative=collaborative, by_popularity=by.popular)

        median, worst = timed(ranked, arguments.requests)
        alone, _ = timed(retrieved, arguments.requests)
        inference.ranking.rank.CANDIDATES = size
        whole, _ = timed(ranked, max(5, arguments.requests // 10))
        inference.ranking.rank.CANDIDATES = CANDIDATES
        print(f"{size:>9,} {median:>10.2f} {worst:>8.2f} {alone:>14.2f} {whole:>22.2f}")
        result.append(
            {
                "contents": size,
                "rank_p50_ms": median,
                "rank_p99_ms": worst,
                "retrieval_p50_ms": alone,
                "whole_p50_ms": whole,
            }
        )
    keep({"rows": result})


if __name__ == "__main__":
    main()
