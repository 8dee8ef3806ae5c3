"""Admission: authentication, limits, deadlines and logging of every request, before any handler.

Token → body → a slot among the requests in flight → the handler, within a deadline → headers, metrics, a log line.
Every failure becomes a problem document (RFC 9457) that reveals no internals.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference.http.identity import NOBODY, Bearers, Caller, RateLimit
from inference.http.logs import ACCESS, log_answer
from inference.http.metrics import Metrics
from inference.http.problems import Problem, unavailable
from inference.http.requests import REQUEST_ID_PATTERN, header_in, read_body
from inference.http.routes import ENDPOINTS, REQUEST_ID_HEADER, Endpoint, Handler, Handlers, OperationName
from inference.scopes import Scope
from stillpoint.errors import InvalidInput, PlanRefused, UnknownFeature
from stillpoint.outages import outage

_REQUEST_ID = re.compile(REQUEST_ID_PATTERN.removesuffix("$") + r"\Z")


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits of one process: requests in flight and by caller, and seconds per answer and per body."""

    at_once: int = 64
    seconds: float = 2.0
    body_seconds: float = 5.0
    per_second: float | None = None
    """Requests per second of one caller; None sets no limit."""


class Admission:
    """Admits requests to the handlers of one process, within its limits."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        limits: AdmissionLimits,
        tokens: Bearers | None,
        guarded: Collection[OperationName] = (),
    ) -> None:
        """`tokens` None admits every request without a token. `guarded` endpoints need the scope `read` although others of
        their kind are open."""
        self._guarded = frozenset(guarded)
        self._rate = None if limits.per_second is None else RateLimit(limits.per_second, monotonic=time.monotonic)
        self._metrics = metrics
        self._limits = limits
        self._tokens = tokens
        self._in_flight = 0
        self.draining = False
        """True once the process was asked to stop: it still answers, with `Connection: close`."""

    def routes(self, handlers: Handlers) -> list[Route]:
        """Return the routes of the endpoints that have a handler."""
        return [self._route(one, handlers[one.name]) for one in ENDPOINTS if one.name in handlers]

    def _route(self, endpoint: Endpoint, handler: Handler) -> Route:
        route = f"{endpoint.method} {endpoint.path}"

        async def handle(request: Request) -> Response:
            started = time.perf_counter()
            request_id = header_in(request, REQUEST_ID_HEADER) or ""
            if not _REQUEST_ID.match(request_id):
                request_id = uuid.uuid4().hex
            request.state.request_id = request_id
            try:
                response = await self._answer(endpoint, handler, request)
            except Exception as error:  # noqa: BLE001  _problem logs what is unexpected
                response = _problem(error, request_id).response()
            response.headers[REQUEST_ID_HEADER] = request_id
            if self.draining:
                response.headers["Connection"] = "close"
            self._metrics.answered(route, response.status_code, started)
            log_answer(request_id, endpoint.method, endpoint.path, response.status_code, time.perf_counter() - started)
            return response

        return Route(endpoint.path, handle, methods=[endpoint.method])

    async def _answer(self, endpoint: Endpoint, handler: Handler, request: Request) -> Response:
        scope = Scope.READ if endpoint.name in self._guarded else endpoint.scope
        if scope is not None:
            request.state.caller = self._caller(request, endpoint, scope)
        if endpoint.scope is None:
            return await handler(request)
        if endpoint.reads_body:  # before a slot is taken, so that slow senders do not block others
            request.state.body = await read_body(request, self._limits.body_seconds)
        if self._in_flight >= self._limits.at_once:
            self._metrics.saturated()
            raise unavailable("this process answers as many requests as it can; come back in a moment")
        self._in_flight += 1
        self._metrics.in_flight(self._in_flight)
        seconds = self._limits.seconds * endpoint.patience
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await handler(request)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise unavailable(f"no answer could be made within {seconds:g} s") from None
        finally:
            self._in_flight -= 1
            self._metrics.in_flight(self._in_flight)

    def _caller(self, request: Request, endpoint: Endpoint, scope: Scope) -> Caller:
        if self._tokens is None:
            return NOBODY
        caller = self._tokens.demand(header_in(request, "authorization"), scope, for_users=endpoint.for_users)
        if self._rate is not None:
            self._rate.take(caller)
        return caller


def _problem(error: Exception, request_id: str) -> Problem:
    match error:
        case Problem():
            return error
        case InvalidInput() | UnknownFeature() | PlanRefused():
            return Problem(422, "Unprocessable content", str(error))
    if outage(error) is not None:
        ACCESS.warning("a store is away", extra={"fields": {"request_id": request_id, "error": type(error).__name__}})
        return unavailable("a store that the answer needs is away for a moment")
    ACCESS.error("a request failed", exc_info=error, extra={"fields": {"request_id": request_id}})
    return Problem(500, "Internal error", "the service failed; its log tells more under this request id")


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer a request that Starlette itself refuses: an unknown path or method."""
    assert isinstance(error, HTTPException)
    detail = {404: "there is nothing at this path", 405: "this path has other methods"}.get(error.status_code, "")
    response = Problem(error.status_code, str(error.detail), detail or str(error.detail)).response()
    response.headers.update(error.headers or {})
    response.headers[REQUEST_ID_HEADER] = uuid.uuid4().hex
    return response


def application(admission: Admission, handlers: Handlers, lifespan: object) -> Starlette:
    """Return the ASGI application of these handlers behind `admission`.

    It sends no CORS headers, so web pages of other origins cannot read its answers.
    """
    app = Starlette(
        routes=admission.routes(handlers),
        exception_handlers={HTTPException: _not_routed},
        lifespan=lifespan,  # type: ignore[arg-type]
    )
    app.router.redirect_slashes = False  # a redirect would repeat the client's Host header, and need no token
    return app
