"""What a scorer does when its endpoint hangs, fails or answers garbage, over real HTTP, with boto3."""

from collections.abc import Iterator

import numpy as np
import pytest

from inference.ranking.sagemaker_scorer import Circuit, CircuitBreaker, EndpointScorer
from stillpoint.errors import StackUnavailable
from stillpoint.model import ModelBundle
from tests.support.hand_made import contents, model
from tests.support.model_endpoint import Endpoint

IDS = tuple(one[0] for one in contents(12))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(model(IDS))
    yield server
    server.stop()


def scorer(endpoint: Endpoint, clock: list[float]) -> EndpointScorer:
    breaker = CircuitBreaker(failures=4, rest_seconds=5, monotonic=lambda: clock[0])
    return EndpointScorer(
        endpoint.client(seconds=0.3),
        "ranker",
        endpoint.bundle,
        breaker=breaker,
        sleep=lambda _: None,
        jitter=lambda: 0.5,
    )


def columns(bundle: ModelBundle) -> dict[str, np.ndarray]:
    texts = bundle.manifest.categories
    return {
        name: np.array([texts[name][0]], dtype=object) if name in texts else np.array([np.nan])
        for name in bundle.input_columns
    }


def test_an_endpoint_scores_exactly_as_the_bundle_in_process(endpoint: Endpoint) -> None:
    given = columns(endpoint.bundle)
    expected = endpoint.bundle.score(given, content_ids=IDS, sequence_id=3)
    assert np.array_equal(scorer(endpoint, [0.0]).invoke(given, content_ids=IDS, sequence_id=3), expected)


@pytest.mark.parametrize("mood", ["hangs", "fails", "garbage", "other model", "too few", "not finite"])
def test_a_bad_answer_is_tried_twice_and_then_told(endpoint: Endpoint, mood: str) -> None:
    endpoint.mood = mood
    with pytest.raises(StackUnavailable, match="endpoint ranker gave no scores"):
        scorer(endpoint, [0.0]).invoke(columns(endpoint.bundle), content_ids=IDS, sequence_id=None)
    assert endpoint.calls == 2


def test_after_repeated_failures_nobody_waits_until_one_call_has_tried_and_succeeded(endpoint: Endpoint) -> None:
    clock, given = [0.0], columns(endpoint.bundle)
    made = scorer(endpoint, clock)
    endpoint.mood = "fails"
    for _ in range(3):
        with pytest.raises(StackUnavailable):
            made.invoke(given, content_ids=IDS, sequence_id=None)
    assert (endpoint.calls, made.breaker.state) == (4, Circuit.OPEN)
    endpoint.mood, clock[0] = "right", 6.0
    assert len(made.invoke(given, content_ids=IDS, sequence_id=None)) == len(IDS)
    assert made.breaker.state is Circuit.CLOSED
