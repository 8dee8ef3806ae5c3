"""What is asked of the service, and what to do with each answer: give it back, ask again, or raise. (pure)

Every request may be asked again. A prediction keeps its request id, by which the service gives one recommendation one id;
events keep their `event_id`, by which the stream counts each once; everything else only reads.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from stillpoint.client import types

Answer = TypeVar("Answer")

AGAIN = frozenset((429, 502, 503, 504))
"""Statuses that say: come back. Whatever else is no 2xx is final."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


class ServiceError(Exception):
    """The service refused a request, or gave no answer before the deadline. `status` is 0 where there was none."""

    def __init__(self, status: int, detail: str, *, field: str | None = None, request_id: str | None = None) -> None:
        where = f" (request {request_id})" if request_id else ""
        super().__init__(f"{status}: {detail}{where}" if status else f"{detail}{where}")
        self.status, self.detail, self.field, self.request_id = status, detail, field, request_id


@dataclass(frozen=True, slots=True)
class Exchange(Generic[Answer]):
    """One request, and the type of its answer."""

    answer: type[Answer]
    method: str
    path: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def content(self) -> bytes | None:
        """Return the body as it is sent."""
        return None if self.body is None else msgspec.json.encode(self.body)

    def all_headers(self, token: str | None) -> dict[str, str]:
        """Return the headers of every attempt; all attempts have one request id."""
        found = {"X-Request-Id": self.request_id, **self.headers}
        if self.body is not None:
            found["Content-Type"] = "application/json"
        if token is not None:
            found["Authorization"] = f"Bearer {token}"
        return found

    def read(self, status: int, content: bytes, retry_after: str | None) -> "Answer | Again":
        """Return the answer, or that it is worth asking again.

        Raises:
            ServiceError: the service refuses the request, or its answer is not what `openapi.json` describes.
        """
        if status in AGAIN:
            return Again(self.refusal(status, content), _seconds(retry_after))
        if not 200 <= status < 300:
            raise self.refusal(status, content)
        try:
            return msgspec.json.decode(content, type=self.answer)
        except msgspec.ValidationError as error:
            raise ServiceError(status, f"the answer is none that this client knows: {error}") from None

    def refusal(self, status: int, content: bytes) -> ServiceError:
        """Return a refusal with what its problem document says."""
        try:
            problem = msgspec.json.decode(content, type=_Problem)
        except msgspec.DecodeError:
            problem = _Problem(content[:200].decode(errors="replace") or "no reason was given")
        return ServiceError(status, problem.detail, field=problem.field, request_id=self.request_id)


@dataclass(frozen=True, slots=True)
class Again:
    """The service asks to come back, perhaps after some seconds."""

    error: ServiceError
    after: float | None = None


class _Problem(msgspec.Struct):
    detail: str
    field: str | None = None


def pause(attempt: int, after: float | None, left: float) -> float | None:
    """Return the seconds to wait before attempt number `attempt` (from 1), or None if the deadline would pass meanwhile.

    Without the service's own wish it is drawn from 0 to a bound that doubles (full jitter, Brooker, "Exponential backoff and
    jitter", 2015), so that clients do not come back at the same time.
    """
    bound = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1))
    wanted = random.uniform(0, bound) if after is None else after + random.uniform(0, FIRST_PAUSE)
    return wanted if wanted < left else None


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdigit() else None


def recommendations(user_id: str, kinds: Sequence[str], limit: int | None) -> Exchange[types.UserRecommendations]:
    """Ask for what is stored for a user."""
    parameters = {"kinds": ",".join(kinds)} | ({} if limit is None else {"limit": str(limit)})
    return Exchange(types.UserRecommendations, "GET", f"/v1/users/{user_id}/recommendations", parameters)


def prediction(user_id: str, kind: str, limit: int | None) -> Exchange[types.Recommendation]:
    """Ask for a prediction from the features as they are now."""
    body = {"user_id": user_id, "kind": kind} | ({} if limit is None else {"limit": limit})
    return Exchange(types.Recommendation, "POST", "/v1/recommendations", body=body)


def sent_events(events: Sequence[Mapping[str, Any]]) -> Exchange[types.EventOutcomes]:
    """Send events; each needs an `event_id` of its own, so that it counts once however often it is sent.

    Raises:
        ValueError: an event has none.
    """
    for place, event in enumerate(events):
        if not event.get("event_id"):
            raise ValueError(f"event {place} has no event_id: sent twice, it would count twice")
    return Exchange(types.EventOutcomes, "POST", "/v1/events", body={"events": list(events)})


def features(
    entities: Mapping[str, Sequence[Any]], names: Sequence[str], service: str | None, *, enforce: bool
) -> Exchange[types.FeatureRows]:
    """Ask for online features as Feast's own client does: by `view:feature` names or by a feature service.

    Raises:
        ValueError: neither or both are named.
    """
    if bool(names) == (service is not None):
        raise ValueError("name either features or a feature service")
    wanted: dict[str, Any] = {"features": list(names)} if names else {"feature_service": service}
    body = {"entities": {key: list(values) for key, values in entities.items()}, **wanted}
    headers = {"X-Stillpoint-Mode": "enforce" if enforce else "compat"}
    return Exchange(types.FeatureRows, "POST", "/get-online-features", body=body, headers=headers)


def explanation(recommendation_id: str) -> Exchange[types.WhyRecommended]:
    """Ask what a recommendation was made from."""
    return Exchange(types.WhyRecommended, "GET", f"/v1/recommendations/{recommendation_id}/explanation")


def live_release() -> Exchange[types.LiveRelease]:
    """Ask which release is answered with."""
    return Exchange(types.LiveRelease, "GET", "/v1/release")
