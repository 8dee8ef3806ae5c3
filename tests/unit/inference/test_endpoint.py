"""What does a scorer do when its endpoint hangs, fails or answers garbage? Over real HTTP, with boto3."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import numpy as np
import orjson
import pytest

from inference.endpoint import Circuit, CircuitBreaker, EndpointScorer, endpoint_config
from inference.model_server import _parse
from stillpoint.errors import StackUnavailable
from stillpoint.model import ModelBundle
from tests.hand_made import contents, model

IDS = tuple(one[0] for one in contents(12))


class Endpoint(ThreadingHTTPServer):
    """An endpoint whose answer a test decides."""

    def __init__(self, bundle: ModelBundle) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bundle = bundle
        self.mood = "right"
        self.calls = 0


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        self.server.calls += 1
        body = self.rfile.read(int(self.headers["Content-Length"]))
        columns, ids, sequence_id = _parse(self.server.bundle, body, "application/json")
        scores = self.server.bundle.score(columns, content_ids=ids, sequence_id=sequence_id).tolist()
        answers = {
            "right": {"scores": scores, "model_sha256": self.server.bundle.sha256},
            "other model": {"scores": scores, "model_sha256": "0" * 64},
            "too few": {"scores": scores[1:], "model_sha256": self.server.bundle.sha256},
            "not finite": {"scores": [None] * len(scores), "model_sha256": self.server.bundle.sha256},
        }
        if self.server.mood == "hangs":
            time.sleep(0.6)
        data = orjson.dumps(answers.get(self.server.mood, "<html>"))
        self.send_response(500 if self.server.mood == "fails" else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint(model(IDS))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def scorer(endpoint: Endpoint, clock: list[float]) -> EndpointScorer:
    client = boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{endpoint.server_port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=endpoint_config(seconds=0.3),
    )
    breaker = CircuitBreaker(failures=4, rest_seconds=5, monotonic=lambda: clock[0])
    return EndpointScorer(client, "ranker", endpoint.bundle, breaker=breaker, sleep=lambda _: None, jitter=lambda: 0.5)


def columns(bundle: ModelBundle) -> dict[str, np.ndarray]:
    texts = bundle.manifest.categories
    return {
        name: np.array([texts[name][0]], dtype=object) if name in texts else np.array([np.nan])
        for name in bundle.input_columns
    }


def test_an_endpoint_scores_exactly_as_the_bundle_in_process(endpoint: Endpoint) -> None:
    given = columns(endpoint.bundle)
    expected = endpoint.bundle.score(given, content_ids=IDS, sequence_id=3)
    assert np.array_equal(scorer(endpoint, [0.0]).score(given, content_ids=IDS, sequence_id=3), expected)


@pytest.mark.parametrize("mood", ["hangs", "fails", "garbage", "other model", "too few", "not finite"])
def test_a_bad_answer_is_tried_twice_and_then_told(endpoint: Endpoint, mood: str) -> None:
    endpoint.mood = mood
    with pytest.raises(StackUnavailable, match="endpoint ranker gave no scores"):
        scorer(endpoint, [0.0]).score(columns(endpoint.bundle), content_ids=IDS, sequence_id=None)
    assert endpoint.calls == 2


def test_after_repeated_failures_nobody_waits_until_one_call_has_tried_and_succeeded(endpoint: Endpoint) -> None:
    clock, given = [0.0], columns(endpoint.bundle)
    made = scorer(endpoint, clock)
    endpoint.mood = "fails"
    for _ in range(3):
        with pytest.raises(StackUnavailable):
            made.score(given, content_ids=IDS, sequence_id=None)
    assert (endpoint.calls, made.breaker.state) == (4, Circuit.OPEN)
    endpoint.mood, clock[0] = "right", 6.0
    assert len(made.score(given, content_ids=IDS, sequence_id=None)) == len(IDS)
    assert made.breaker.state is Circuit.CLOSED
