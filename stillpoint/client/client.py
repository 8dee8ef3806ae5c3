"""The clients of the HTTP service, one for threads and one for asyncio.

A client keeps connections; make one per process and close it. `deadline` bounds a call with all of its retries; the default is
what an app can wait for a list.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx

from stillpoint.client import exchange, types
from stillpoint.client.exchange import Again, Exchange, ServiceError, pause

Answer = TypeVar("Answer")

DEADLINE = 2.0


class Client:
    """Talks to the service from threads.

    Every call raises `ServiceError` if the service refuses it, or gives no answer before the deadline; until then it is asked
    again after a lost connection, a 429, 502, 503 or 504.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = DEADLINE,
        transport: httpx.BaseTransport | None = None,
        verify: Any = True,
    ) -> None:
        self._http = httpx.Client(base_url=url, transport=transport, verify=verify)
        self._token, self._deadline = token, deadline

    def recommendations(
        self, user_id: str, kinds: Sequence[str] = ("today",), *, limit: int | None = None
    ) -> types.UserRecommendations:
        """Return what is stored of each kind, or popular contents marked as fallback."""
        return self.ask(exchange.recommendations(user_id, kinds, limit))

    def predict(self, user_id: str, kind: str = "today", *, limit: int | None = None) -> types.Recommendation:
        """Return a list made now, from the features as they are."""
        return self.ask(exchange.prediction(user_id, kind, limit))

    def send_events(self, events: Sequence[Mapping[str, Any]]) -> tuple[types.EventOutcome, ...]:
        """Send events and return what became of each, in order; what is rejected is kept in quarantine."""
        return self.ask(exchange.sent_events(events)).results

    def online_features(
        self,
        entities: Mapping[str, Sequence[Any]],
        features: Sequence[str] = (),
        *,
        feature_service: str | None = None,
        enforce: bool = False,
    ) -> types.FeatureRows:
        """Return online features; with `enforce`, what is past its time to live is withheld."""
        return self.ask(exchange.features(entities, features, feature_service, enforce=enforce))

    def explain(self, recommendation_id: str) -> types.WhyRecommended:
        """Return what a recommendation was made from; some seconds after it was made."""
        return self.ask(exchange.explanation(recommendation_id))

    def release(self) -> types.LiveRelease:
        """Return the release that is answered with."""
        return self.ask(exchange.live_release())

    def ask(self, asked: Exchange[Answer]) -> Answer:
        """Send one request, again where that helps, and return its answer."""
        end, attempt = time.monotonic() + self._deadline, 0
        while True:
            attempt += 1
            left = end - time.monotonic()
            try:
                found = self._http.request(
                    asked.method,
                    asked.path,
                    params=dict(asked.parameters),
                    content=asked.content(),
                    headers=asked.all_headers(self._token),
                    timeout=max(left, 0.001),
                )
                outcome = asked.read(found.status_code, found.content, found.headers.get("Retry-After"))
            except httpx.TransportError as error:
                outcome = _lost(asked, error)
            if not isinstance(outcome, Again):
                return outcome
            wait = pause(attempt, outcome.after, end - time.monotonic())
            if wait is None:
                raise outcome.error
            time.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """Talks to the service from asyncio. Calls are those of `Client`, awaited."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = DEADLINE,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: Any = True,
    ) -> None:
        self._http = httpx.AsyncClient(base_url=url, transport=transport, verify=verify)
        self._token, self._deadline = token, deadline

    async def recommendations(
        self, user_id: str, kinds: Sequence[str] = ("today",), *, limit: int | None = None
    ) -> types.UserRecommendations:
        """Return what is stored of each kind, or popular contents marked as fallback."""
        return await self.ask(exchange.recommendations(user_id, kinds, limit))

    async def predict(self, user_id: str, kind: str = "today", *, limit: int | None = None) -> types.Recommendation:
        """Return a list made now, from the features as they are."""
        return await self.ask(exchange.prediction(user_id, kind, limit))

    async def send_events(self, events: Sequence[Mapping[str, Any]]) -> tuple[types.EventOutcome, ...]:
        """Send events and return what became of each, in order; what is rejected is kept in quarantine."""
        return (await self.ask(exchange.sent_events(events))).results

    async def online_features(
        self,
        entities: Mapping[str, Sequence[Any]],
        features: Sequence[str] = (),
        *,
        feature_service: str | None = None,
        enforce: bool = False,
    ) -> types.FeatureRows:
        """Return online features; with `enforce`, what is past its time to live is withheld."""
        return await self.ask(exchange.features(entities, features, feature_service, enforce=enforce))

    async def explain(self, recommendation_id: str) -> types.WhyRecommended:
        """Return what a recommendation was made from; some seconds after it was made."""
        return await self.ask(exchange.explanation(recommendation_id))

    async def release(self) -> types.LiveRelease:
        """Return the release that is answered with."""
        return await self.ask(exchange.live_release())

    async def ask(self, asked: Exchange[Answer]) -> Answer:
        """Send one request, again where that helps, and return its answer."""
        end, attempt = time.monotonic() + self._deadline, 0
        while True:
            attempt += 1
            left = end - time.monotonic()
            try:
                async with asyncio.timeout(max(left, 0.001)):
                    found = await self._http.request(
                        asked.method,
                        asked.path,
                        params=dict(asked.parameters),
                        content=asked.content(),
                        headers=asked.all_headers(self._token),
                        timeout=max(left, 0.001),
                    )
                outcome = asked.read(found.status_code, found.content, found.headers.get("Retry-After"))
            except (httpx.TransportError, TimeoutError) as error:
                outcome = _lost(asked, error)
            if not isinstance(outcome, Again):
                return outcome
            wait = pause(attempt, outcome.after, end - time.monotonic())
            if wait is None:
                raise outcome.error
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _lost(asked: Exchange[Any], error: Exception) -> Again:
    words = f"no answer: {type(error).__name__}" + (f": {error}" if str(error) else "")
    return Again(ServiceError(0, words, request_id=asked.request_id))
