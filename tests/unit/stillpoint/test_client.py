"""The client asks again where that helps, gives up at its deadline, and knows exactly what the service describes."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from stillpoint.client import AsyncClient, Client, ServiceError, types
from stillpoint.client.exchange import pause

OPENAPI = json.loads((Path(__file__).parents[3] / "openapi.json").read_text())
LIST = {"recommendation_id": "0" * 32, "source": "model", "age_seconds": 0.0, "release": "r0001",
        "items": [{"content_id": "c1", "title": "Rain", "category": "any", "score": 0.5}]}  # fmt: skip
Respond = Callable[[httpx.Request], httpx.Response]


class Service:
    """Answers with the given responses in turn, the last one for ever; keeps the requests."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def call(kind: str, service: Service, work: Callable[[Any], Any], *, deadline: float = 2.0) -> Any:
    """Do the same with either client."""
    transport = httpx.MockTransport(service)
    if kind == "threads":
        with Client("http://test", token="secret", deadline=deadline, transport=transport) as client:
            return work(client)

    async def main() -> Any:
        async with AsyncClient("http://test", token="secret", deadline=deadline, transport=transport) as client:
            return await work(client)

    return asyncio.run(main())


both = pytest.mark.parametrize("kind", ["threads", "asyncio"])


@both
def test_a_lost_connection_and_a_busy_service_are_asked_again_under_one_request_id(kind: str) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "0"}, json={"detail": "saturated"})
    service = Service(httpx.ConnectError("refused"), busy, httpx.Response(429), httpx.Response(200, json=LIST))
    found = call(kind, service, lambda client: client.predict("u1"))
    assert found.items[0] == types.RecommendedContent("c1", "Rain", "any", 0.5)
    assert len(service.requests) == 4
    assert len({request.headers["X-Request-Id"] for request in service.requests}) == 1
    assert {request.headers["Authorization"] for request in service.requests} == {"Bearer secret"}


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
def test_what_is_refused_is_not_asked_again_and_says_what_is_at_fault(kind: str, status: int) -> None:
    service = Service(httpx.Response(status, json={"detail": "expected a kind", "field": "kind"}))
    with pytest.raises(ServiceError, match="expected a kind") as caught:
        call(kind, service, lambda client: client.predict("u1", "naps"))
    assert (caught.value.status, caught.value.field, len(service.requests)) == (status, "kind", 1)
    assert caught.value.request_id == service.requests[0].headers["X-Request-Id"]


@both
def test_a_deadline_bounds_a_call_with_all_of_its_retries(kind: str) -> None:
    service = Service(httpx.ConnectError("refused"))
    began = time.monotonic()
    with pytest.raises(ServiceError, match="no answer: ConnectError") as caught:
        call(kind, service, lambda client: client.release(), deadline=0.3)
    assert time.monotonic() - began < 10
    assert (caught.value.status, len(service.requests) > 1) == (0, True)


def test_who_is_told_to_come_back_after_the_deadline_gives_up_at_once() -> None:
    service = Service(httpx.Response(503, headers={"Retry-After": "60"}, json={"detail": "about to stop"}))
    with pytest.raises(ServiceError, match="503: about to stop"):
        call("threads", service, lambda client: client.release())
    assert len(service.requests) == 1


def test_pauses_are_random_within_a_bound_that_doubles() -> None:
    for attempt, bound in ((1, 0.05), (2, 0.1), (4, 0.4), (20, 2.0)):
        drawn = [pause(attempt, None, 100.0) or 0.0 for _ in range(200)]
        assert 0 <= min(drawn) < max(drawn) <= bound
    assert pause(1, 3.0, 1.0) is None


@both
def test_an_answer_of_another_shape_is_told_and_not_guessed(kind: str) -> None:
    service = Service(httpx.Response(200, json={**LIST, "items": "none"}))
    with pytest.raises(ServiceError, match=r"none that this client knows: Expected `array`"):
        call(kind, service, lambda client: client.predict("u1"))


def test_an_event_without_an_id_is_refused_before_it_is_sent() -> None:
    service = Service(httpx.Response(202, json={"results": []}))
    with pytest.raises(ValueError, match="event 1 has no event_id: sent twice, it would count twice"):
        call("threads", service, lambda client: client.send_events([{"event_id": "a"}, {"type": "login"}]))
    assert service.requests == []


DESCRIBED = {
    types.RecommendedContent: "RecommendedItem",
    types.Recommendation: "PredictionAnswer",
    types.UserRecommendations: "StoredRecommendations",
    types.EventOutcome: "EventResult",
    types.EventOutcomes: "EventResults",
    types.FeatureValues: "FeatureVector",
    types.FeatureNames: "FeatureMetadata",
    types.FeatureRows: "FeatureAnswer",
    types.LiveRelease: "ReleaseDescription",
    types.WhyRecommended: "ExplanationAnswer",
}


@pytest.mark.parametrize("kind", DESCRIBED, ids=lambda kind: kind.__name__)
def test_a_record_has_the_fields_that_the_service_describes(kind: type[msgspec.Struct]) -> None:
    schema = OPENAPI["components"]["schemas"][DESCRIBED[kind]]
    fields = {one.name: one.required for one in msgspec.structs.fields(kind)}
    on_request = {"verbose", "feature_view_metadata"}
    assert set(fields) == set(schema["properties"]) - on_request
    assert {name for name, required in fields.items() if required} == set(schema["required"])


def test_every_answer_of_the_service_has_its_record() -> None:
    told = {
        struct for struct in vars(types).values() if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
    }
    assert told == set(DESCRIBED)
    assert [server["url"] for server in OPENAPI["servers"]] == ["http://127.0.0.1:8090"]
