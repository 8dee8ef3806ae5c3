"""A model in serving sees what it saw in training, though serving computes much of it once for many."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from inference.ranking.catalogue import ContentTable
from inference.ranking.matrix import RankingInput, model_columns
from inference.ranking.rank import Scorer, ScoreRequest
from inference.ranking.sagemaker_scorer import EndpointScorer
from inference.ranking.scorers import InProcessScorer
from inference.ranking.user_features import UserFeatures
from stillpoint.app.entities import user
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.errors import ModelRefused
from stillpoint.features.request_time import REQUEST_TIMESTAMP, compute
from stillpoint.model import ModelBundle
from tests.support.hand_made import model
from tests.support.model_endpoint import Endpoint
from tests.support.wellness import FEATURES


def drawn_user(random: np.random.Generator, *, known: bool) -> UserFeatures:
    columns = {REQUEST_TIMESTAMP: np.array([1_790_000_000_000_000], np.int64)}
    for view in FEATURES.of(user):
        for feature in view:
            if feature.dtype is DType.EMBEDDING:
                columns[feature.name] = random.normal(size=(1, EMBEDDING_LENGTH)).astype(np.float32)
            elif feature.dtype is DType.STRING:
                columns[feature.name] = np.array(["f"], object)
            else:
                columns[feature.name] = np.array([random.uniform(0, 5) if known else np.nan])
        columns[f"{view.name}_age_seconds"] = np.array([random.uniform(0, 99) if known else np.nan])
    return UserFeatures("u1", columns, None, None, None, ())


def contents(random: np.random.Generator, count: int) -> ContentTable:
    categories = np.array([("sleep", "move", "focus", None, "unheard")[n % 5] for n in range(count)], object)
    titles = random.normal(size=(count, EMBEDDING_LENGTH)).astype(np.float32)
    columns = {"category": categories, "duration_seconds": np.arange(count, dtype=float), "title_embedding": titles}
    ids = tuple(f"c{n}" for n in range(count))
    return ContentTable(ids, ids, categories, columns["duration_seconds"], columns, FEATURES)


@pytest.mark.parametrize("count", [1, 2, 300])
@pytest.mark.parametrize("known", [True, False])
def test_columns_are_bit_for_bit_what_the_definitions_give(count: int, known: bool) -> None:
    random = np.random.default_rng(count)
    who, what = drawn_user(random, known=known), contents(random, count)
    rows = {**who.columns, **what.columns}
    expected = compute(rows, FEATURES.request_features)
    found = model_columns(who, what)
    for name, values in expected.items():
        assert np.broadcast_to(found[name], values.shape).tobytes() == values.tobytes(), name


def tried(count: int) -> tuple[ModelBundle, np.random.Generator, ContentTable]:
    random = np.random.default_rng(count)
    what = contents(random, count)
    columns = {**what.columns, "plays_7d": random.uniform(0, 9, count), "completion_rate_30d": np.full(count, np.nan)}
    return model(what.ids[::2], users=5), random, replace(what, columns=columns)


def plainly(bundle: ModelBundle, who: UserFeatures, what: ContentTable, sequence_id: int | None) -> np.ndarray:
    columns = bundle.select(model_columns(who, what), what.ids)
    return bundle.matrix(columns, content_ids=what.ids, sequence_id=sequence_id)


@pytest.mark.parametrize("count", [1, 7, 300])
def test_a_matrix_laid_out_in_advance_is_the_one_made_from_columns(count: int) -> None:
    bundle, random, what = tried(count)
    for known, sequence_id in ((True, 3), (False, None), (True, 0)):
        who = drawn_user(random, known=known)
        matrix = np.full((count, len(bundle.manifest.feature_order)), 77, np.float32)
        RankingInput.of(bundle, what).fill(matrix, who, sequence_id)
        np.testing.assert_array_equal(matrix, plainly(bundle, who, what, sequence_id))


def test_a_part_of_the_contents_has_the_rows_of_the_whole() -> None:
    bundle, random, what = tried(40)
    who, rows = drawn_user(random, known=True), np.array([3, 4, 9, 38])
    part = what.part(rows)
    matrix = np.empty((4, len(bundle.manifest.feature_order)), np.float32)
    RankingInput.of(bundle, part).fill(matrix, who, 1)
    np.testing.assert_array_equal(matrix, plainly(bundle, who, what, 1)[rows])
    np.testing.assert_array_equal(matrix, plainly(bundle, who, part, 1))


@pytest.fixture(params=["in process", "behind an endpoint"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Scorer, ModelBundle, Callable[[], int | None]]]:
    """A scorer, its model, and how many calls it has made elsewhere."""
    bundle, _, _ = tried(60)
    if request.param == "in process":
        yield InProcessScorer(bundle), bundle, lambda: None
        return
    server = Endpoint(bundle)
    yield EndpointScorer(server.client(seconds=2.0), "ranker", bundle), bundle, lambda: server.calls
    server.stop()


def test_people_scored_together_get_the_scores_of_each_alone(
    both: tuple[Scorer, ModelBundle, Callable[[], int | None]],
) -> None:
    scorer, bundle, calls = both
    _, random, what = tried(60)
    asked = [
        ScoreRequest(drawn_user(random, known=True), what, 2),
        ScoreRequest(drawn_user(random, known=False), what.part(np.arange(0, 60, 7)), None),
        ScoreRequest(drawn_user(random, known=True), what.of_categories(("sleep",)), 0),
    ]
    for one, scores in zip(asked, scorer.score(asked), strict=True):
        columns = bundle.select(model_columns(one.user, one.contents), one.contents.ids)
        alone = bundle.score(columns, content_ids=one.contents.ids, sequence_id=one.sequence_id)
        assert scores.tobytes() == alone.tobytes()
    assert calls() in (None, 1)


def test_an_endpoint_is_not_asked_for_more_at_once_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, random, what = tried(60)
    server = Endpoint(bundle)
    monkeypatch.setattr("inference.ranking.sagemaker_scorer.ROWS_AT_ONCE", 130)
    asked = [ScoreRequest(drawn_user(random, known=True), what, sequence_id) for sequence_id in (0, 1, 2, 3, None)]
    try:
        found = EndpointScorer(server.client(seconds=2.0), "ranker", bundle).score(asked)
    finally:
        server.stop()
    assert server.calls == 3
    for scores, expected in zip(found, InProcessScorer(bundle).score(asked), strict=True):
        assert scores.tobytes() == expected.tobytes()


@pytest.mark.parametrize("behind", [False, True])
def test_a_sequence_id_of_another_mapping_is_refused_before_anything_is_sent(behind: bool) -> None:
    bundle, random, what = tried(6)
    scorer = EndpointScorer(None, "ranker", bundle) if behind else InProcessScorer(bundle)
    with pytest.raises(ModelRefused, match="comes from another mapping"):
        scorer.score(
            [
                ScoreRequest(drawn_user(random, known=True), what, None),
                ScoreRequest(drawn_user(random, known=True), what, 5),
            ]
        )


def test_a_column_that_nobody_has_is_refused_by_name() -> None:
    bundle, random, what = tried(4)
    bundle.manifest = bundle.manifest.model_copy(
        update={
            "feature_order": tuple(
                "mood" if name == "steps_sum_10m" else name for name in bundle.manifest.feature_order
            )
        }
    )
    with pytest.raises(ModelRefused, match="needs column mood"):
        InProcessScorer(bundle).score([ScoreRequest(drawn_user(random, known=True), what, None)])
