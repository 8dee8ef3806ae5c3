"""What every request goes through, whoever answers it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from inference.http.admission import Admission, AdmissionLimits, application
from inference.http.metrics import Metrics
from inference.http.requests import MAX_BODY
from inference.http.routes import Handler, OperationName
from stillpoint.errors import CorruptData, StackUnavailable

BODY = {"user_id": "u1"}


class Held:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.entered.set()
        await self.go.wait()
        return Response("done")


def run(
    handler: Handler | None,
    talk: Callable[[httpx.AsyncClient, Admission], Awaitable[Any]],
    limits: AdmissionLimits | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Let `talk` talk to a gate before one handler of POST /v1/recommendations, and to /healthz."""

    async def alive(request: Request) -> Response:
        return Response("alive")

    async def main() -> None:
        gate = Admission(metrics or Metrics(), limits=limits or AdmissionLimits(), tokens=None)
        app = application(gate, {OperationName.PREDICT: handler or alive, OperationName.ALIVE: alive}, None)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await talk(client, gate)

    asyncio.run(main())


def test_a_full_process_turns_requests_away_as_problems_and_still_says_that_it_is_alive() -> None:
    metrics = Metrics()

    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        held = client.post("/v1/recommendations", json=BODY)
        first = asyncio.create_task(held)
        await handler.entered.wait()
        refused = await client.post("/v1/recommendations", json=BODY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await client.get("/healthz")).status_code == 200
        handler.go.set()
        assert (await first).status_code == 200
        assert (await client.post("/v1/recommendations", json=BODY)).status_code == 200

    handler = Held()
    run(handler, talk, AdmissionLimits(at_once=1), metrics)
    assert b"stillpoint_http_saturated_total 1.0" in metrics.exposition()
    assert b"stillpoint_http_in_flight 0.0" in metrics.exposition()


def test_an_answer_that_takes_too_long_is_given_up_and_its_place_is_free_again() -> None:
    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        answer = await client.post("/v1/recommendations", json=BODY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "0.05 s" in answer.json()["detail"]
        handler.go.set()
        assert (await client.post("/v1/recommendations", json=BODY)).status_code == 200

    handler = Held()
    run(handler, talk, AdmissionLimits(at_once=1, seconds=0.05))


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(declared: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * (MAX_BODY // 4)

    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        content = b" " * (MAX_BODY + 1) if declared else parts()
        answer = await client.post("/v1/recommendations", content=content)
        assert (answer.status_code, answer.json()["field"]) == (413, "body")

    run(None, talk)


def test_a_body_that_comes_too_slowly_is_refused_and_takes_no_place() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        slow = asyncio.create_task(client.post("/v1/recommendations", content=trickle()))
        await asyncio.sleep(0.02)
        assert (await client.post("/v1/recommendations", json=BODY)).status_code == 200
        assert (await slow).status_code == 408

    run(None, talk, AdmissionLimits(at_once=1, body_seconds=0.2))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("/srv/app user_77"), 500),
        (CorruptData("key stillpoint:rec:user_77"), 500),
        (StackUnavailable("Redis at 10.0.0.7 of user_77"), 503),
        (ConnectionRefusedError("10.0.0.7"), 503),
    ],
)
def test_what_goes_wrong_inside_is_neither_told_nor_logged_with_its_text(
    error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> Response:
        raise error

    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        answer = await client.post("/v1/recommendations", json=BODY, headers={"x-request-id": "r-1"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, "r-1")
        for inner in ("user_77", "10.0.0.7", "/srv", type(error).__name__):
            assert inner not in answer.text

    with caplog.at_level(logging.INFO):
        run(fail, talk)
    assert all("user_77" not in record.getMessage() for record in caplog.records)
    assert any(getattr(record, "fields", {}).get("request_id") == "r-1" for record in caplog.records)


def test_a_draining_process_answers_and_asks_the_client_to_leave() -> None:
    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        assert "connection" not in (await client.get("/healthz")).headers
        gate.draining = True
        answer = await client.get("/healthz")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")

    run(None, talk)


def test_unknown_paths_and_methods_are_problems_too() -> None:
    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        for method, path, status in (("GET", "/nothing", 404), ("DELETE", "/v1/recommendations", 405)):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["status"]) == (status, status)
            assert answer.headers["content-type"] == "application/problem+json"

    run(None, talk)


def test_a_request_id_that_is_no_id_is_replaced() -> None:
    async def talk(client: httpx.AsyncClient, gate: Admission) -> None:
        answer = await client.get("/healthz", headers={"x-request-id": "a\tb" * 99})
        assert len(answer.headers["x-request-id"]) == 32

    run(None, talk)
