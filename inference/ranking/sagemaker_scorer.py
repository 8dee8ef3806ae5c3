"""Scores with a model behind a SageMaker endpoint, with deadlines, retries and a circuit breaker.

Each call has a deadline and at most `ATTEMPTS` attempts, with jitter between them. After repeated failures the circuit
breaker opens, and requests no longer wait for the endpoint. Every failure is raised as `StackUnavailable`: the caller
then answers with popular contents, marked as fallback.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from inference.ranking.matrix import model_columns
from inference.ranking.rank import ScoreRequest
from inference.ranking.scorers import BundleScorer, InProcessScorer, row_ranges
from stillpoint.errors import StackUnavailable
from stillpoint.model import NO_SEQUENCE_ID, ModelBundle
from stillpoint.releases.records import Route

Scores = npt.NDArray[np.float64]

ATTEMPTS = 2
BACK_OFF_SECONDS = 0.03
DEADLINE_SECONDS = 0.5
REST_SECONDS = 5.0
ROWS_AT_ONCE = 3_000
"""Contents in one invocation, about a megabyte; SageMaker takes six."""


class _Garbage(Exception):
    """The endpoint's answer is not a list of scores of this model."""


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "trying"


class CircuitBreaker:
    """Opens after `failures` failures in a row; after `rest_seconds` (5 by default) one trial call closes or reopens it."""

    def __init__(
        self, *, failures: int = 5, rest_seconds: float | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = failures
        self._rest = REST_SECONDS if rest_seconds is None else rest_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failed = 0
        self._opened_at = 0.0
        self.state = Circuit.CLOSED

    def allow(self) -> bool:
        """Say whether a call may be made now. True obliges the caller to report `succeeded` or `failed`."""
        with self._lock:
            if self.state is Circuit.OPEN and self._monotonic() - self._opened_at >= self._rest:
                self.state = Circuit.HALF_OPEN
                return True
            return self.state is Circuit.CLOSED

    def succeeded(self) -> None:
        with self._lock:
            self.state, self._failed = Circuit.CLOSED, 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            if self.state is Circuit.HALF_OPEN or self._failed >= self._limit:
                self.state, self._opened_at = Circuit.OPEN, self._monotonic()


class EndpointScorer(BundleScorer):
    """A `Scorer` whose trees run behind an endpoint. The local bundle supplies signature, popularity and retrieval."""

    waits = True

    def __init__(
        self,
        client: Any,
        endpoint: str,
        bundle: ModelBundle,
        *,
        breaker: CircuitBreaker | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`client` is boto3's `sagemaker-runtime` with `endpoint_config`. `jitter` returns 0 to 1."""
        super().__init__(bundle)
        self._client = client
        self._endpoint = endpoint
        self.breaker = breaker or CircuitBreaker()
        self._sleep = sleep
        self._jitter = jitter

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Score as declared by `Scorer`, with one endpoint invocation per `ROWS_AT_ONCE` contents."""
        for one in requests:
            self.bundle.collaborative_scores(
                (), one.sequence_id
            )  # refuse a bad request here: the endpoint would refuse the whole invocation
        found: list[Scores] = []
        for group in _groups(requests):
            ids = [content_id for one in group for content_id in one.contents.ids]
            scores = self.invoke(_together(self.bundle, group), content_ids=ids, sequence_id=_sequence_ids(group))
            found += [scores[place] for place in row_ranges(group)]
        return found

    def invoke(
        self,
        columns: Mapping[str, npt.NDArray[Any]],
        *,
        content_ids: Sequence[str],
        sequence_id: int | Sequence[int] | None,
    ) -> Scores:
        """Return one score per content. `sequence_id` is the user's, or one per content (-1 for none).

        Raises:
            StackUnavailable: no usable scores arrived in time, or the circuit breaker is open.
            ModelRefused: a column that the model takes is missing.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        body = encode_invocation(self.bundle.select(columns, content_ids), content_ids, sequence_id)
        why = "its circuit is open after repeated failures"
        for attempt in range(ATTEMPTS):
            if attempt:
                self._sleep(BACK_OFF_SECONDS * 2 ** (attempt - 1) * (0.5 + self._jitter()))
            if not self.breaker.allow():
                break
            try:
                answer = self._client.invoke_endpoint(
                    EndpointName=self._endpoint, ContentType="application/json", Accept="application/json", Body=body
                )
                scores = decode_scores(answer["Body"].read(), len(content_ids), self.bundle.sha256)
            except (BotoCoreError, ClientError, OSError, AttributeError, _Garbage) as error:
                # botocore raises AttributeError for an error body that is JSON but no object
                self.breaker.failed()
                why = f"{type(error).__name__}: {error}"
                continue
            self.breaker.succeeded()
            return scores
        raise StackUnavailable(f"endpoint {self._endpoint} gave no scores: {why}")


def _groups(requests: Sequence[ScoreRequest]) -> list[list[ScoreRequest]]:
    """Split the requests, in order, into groups of at most `ROWS_AT_ONCE` contents."""
    groups: list[list[ScoreRequest]] = []
    rows = 0
    for one in requests:
        rows += len(one.contents)
        if not groups or rows > ROWS_AT_ONCE:
            groups.append([])
            rows = len(one.contents)
        groups[-1].append(one)
    return groups


def _together(bundle: ModelBundle, group: Sequence[ScoreRequest]) -> dict[str, npt.NDArray[Any]]:
    """Return the model's input columns for all requests of a group, concatenated."""
    parts = [bundle.select(model_columns(one.user, one.contents), one.contents.ids) for one in group]
    if len(group) == 1:
        return parts[0]
    counts = [len(one.contents) for one in group]
    return {
        name: np.concatenate([np.broadcast_to(part[name], (count,)) for part, count in zip(parts, counts, strict=True)])
        for name in parts[0]
    }


def _sequence_ids(group: Sequence[ScoreRequest]) -> int | list[int] | None:
    if len(group) == 1:
        return group[0].sequence_id
    ids = [(NO_SEQUENCE_ID if one.sequence_id is None else one.sequence_id, len(one.contents)) for one in group]
    return [sequence_id for sequence_id, count in ids for _ in range(count)]


def by_route(client: Any) -> Callable[[Route, ModelBundle], Any]:
    """Return a factory of scorers that follows a release's routing table: the named endpoint, or in this process."""

    def make(route: Route, bundle: ModelBundle) -> Any:
        return InProcessScorer(bundle) if route.endpoint is None else EndpointScorer(client, route.endpoint, bundle)

    return make


def endpoint_config(*, seconds: float = DEADLINE_SECONDS) -> Any:
    """Return boto3's configuration for an endpoint's client: a deadline for each call, and no retries of its own."""
    from botocore.config import Config

    return Config(
        connect_timeout=seconds, read_timeout=seconds, retries={"total_max_attempts": 1}, max_pool_connections=32
    )


def encode_invocation(
    columns: Mapping[str, npt.NDArray[Any]], content_ids: Sequence[str], sequence_id: int | Sequence[int] | None
) -> bytes:
    """Return the model server's JSON. A column of one value stands for all contents; NaN travels as null."""
    listed = {
        name: values.tolist() if values.dtype == object else np.ascontiguousarray(values)
        for name, values in columns.items()
    }
    return orjson.dumps(
        {"columns": listed, "content_ids": list(content_ids), "sequence_id": sequence_id},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def decode_scores(data: bytes, count: int, sha256: str) -> Scores:
    """Return the scores in the model server's answer, float64 of length `count`.

    Raises:
        _Garbage: it is not `count` finite numbers of the model with this SHA-256.
    """
    try:
        answer = orjson.loads(data)
        scores = np.array(answer["scores"], dtype=np.float64)
        model = answer["model_sha256"]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        raise _Garbage(f"no scores document, but {data[:60]!r}") from None
    if model != sha256:
        raise _Garbage(f"scores of model {str(model)[:12]}…; expected {sha256[:12]}…")
    if scores.shape != (count,) or not np.isfinite(scores).all():
        raise _Garbage(f"scores of shape {scores.shape}; expected {count} finite numbers")
    return scores
