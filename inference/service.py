"""How do services and the app ask for recommendations and features over HTTP?

One Starlette application per process. A request takes the loaded release once and stamps it on its answer. Nothing here
decides what is recommended: see `predict` and `rank`.
"""

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference.following import Following
from inference.loaded_release import LoadedRelease
from inference.person import READ_FEATURES, person
from inference.predict import DEFAULT_LIMIT, Ask, Guard, Prediction, Source, predict, section
from inference.problems import Problem, invalid, unavailable
from inference.rank import popular
from inference.recommendations import parse, recommendation_key
from inference.served_log import ServedLog
from inference.tokens import Scope, Tokens
from stillpoint.clock import Clock, to_micros
from stillpoint.errors import InvalidInput, PlanRefused, StackUnavailable, StillpointError, UnknownFeature
from stillpoint.features.on_demand import ON_DEMAND_FUNCTIONS
from stillpoint.features.validate import Malformed
from stillpoint.features.validate import parse as parse_event
from stillpoint.finished import finished_key
from stillpoint.messages import PULL_KINDS, USER_ID_PATTERN, Item, Kind
from stillpoint.stores.columns import Mode
from stillpoint.stores.feature_server import parse_request, to_response
from stillpoint.stores.reader import AsyncOnlineReader

MAX_BODY = 4 * 1024 * 1024
MAX_EVENTS = 500
MAX_LIMIT = 100
MAX_ENTITIES = 10_000
RELEASE_HEADER = "X-Stillpoint-Release"
MODE_HEADER = "X-Stillpoint-Mode"
_USER = re.compile(USER_ID_PATTERN.removesuffix("$") + r"\Z")

PutEvents = Callable[[Sequence[tuple[str, bytes]]], None]
"""Puts accepted payloads on the event stream, in order, or raises. Called in a thread."""
Quarantine = Callable[[Sequence[tuple[bytes, str | None, str]]], None]
"""Keeps rejected payloads with field and reason. Called in a thread."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the application is built from; the entry point makes the clients."""

    following: Following
    redis: Any
    async_reader: Callable[[LoadedRelease], AsyncOnlineReader]
    put_events: PutEvents
    quarantine: Quarantine
    served_log: ServedLog
    clock: Clock
    guard: Guard
    tokens: Tokens | None
    """None answers everybody: on loopback only, which the entry point sees to."""


class Metrics:
    """What the service tells Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "stillpoint_http_seconds",
            "Time to answer.",
            ["route", "status"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1),
            registry=self.registry,
        )
        self.sections = Counter(
            "stillpoint_recommendations", "Answers by source.", ["source", "release"], registry=self.registry
        )
        self.refusals = Counter("stillpoint_guard_refusals", "Fallbacks by reason.", ["reason"], registry=self.registry)
        self.events = Counter("stillpoint_events_received", "Events over HTTP.", ["status"], registry=self.registry)


class Service:
    """The handlers. `app` is the ASGI application."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._metrics = Metrics()
        self._readers: dict[tuple[str, int], AsyncOnlineReader] = {}
        self.app = Starlette(
            routes=[
                self._route("/v1/users/{user_id}/recommendations", self.stored, "GET", Scope.READ),
                self._route("/v1/recommendations", self.predict, "POST", Scope.PREDICT),
                self._route("/get-online-features", self.features, "POST", Scope.READ),
                self._route("/v1/events", self.events, "POST", Scope.WRITE_EVENTS),
                self._route("/v1/release", self.release, "GET", Scope.READ),
                Route("/healthz", self.alive),
                Route("/readyz", self.ready),
                Route("/metrics", self.metrics),
            ],
            lifespan=self._life,
        )

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self._parts.following.start)
        yield
        await asyncio.to_thread(self._parts.following.close)
        await asyncio.to_thread(self._parts.served_log.close)

    def _route(self, path: str, handler: Callable[[Request], Awaitable[Response]], method: str, scope: Scope) -> Route:
        async def handle(request: Request) -> Response:
            started = time.perf_counter()
            request_id = request.headers.get("x-request-id", "")
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", request_id):
                request_id = uuid.uuid4().hex
            request.state.request_id = request_id
            try:
                if self._parts.tokens is not None:
                    self._parts.tokens.demand(request.headers.get("authorization"), scope)
                response = await handler(request)
            except Problem as problem:
                response = problem.response()
            except (InvalidInput, UnknownFeature, PlanRefused) as error:
                response = Problem(422, "Unprocessable content", str(error)).response()
            except (StackUnavailable, OSError):
                response = unavailable("a store that the answer needs is away for a moment").response()
            except StillpointError as error:
                response = Problem(500, "Internal error", type(error).__name__).response()
            response.headers["X-Request-Id"] = request_id
            self._metrics.seconds.labels(path, response.status_code).observe(time.perf_counter() - started)
            return response

        return Route(path, handle, methods=[method])

    def _loaded(self) -> LoadedRelease:
        loaded = self._parts.following.current
        if loaded is None:
            raise unavailable("no release is loaded yet")
        return loaded

    def _reader(self, loaded: LoadedRelease) -> AsyncOnlineReader:
        key = (loaded.id, loaded.generation)
        if key not in self._readers:
            self._readers = dict(list(self._readers.items())[-1:])
            self._readers[key] = self._parts.async_reader(loaded)
        return self._readers[key]

    async def stored(self, request: Request) -> Response:
        """Answer with what is stored of each kind, or with popular contents marked as fallback."""
        loaded = self._loaded()
        user_id = _user(request.path_params["user_id"], "user_id")
        kinds = _kinds(request.query_params.get("kinds", "today"))
        limit = _limit(request.query_params.get("limit"))
        now = self._parts.clock()
        pipeline = self._parts.redis.pipeline(transaction=False)
        for kind in kinds:
            pipeline.hget(recommendation_key(user_id, kind, loaded.id), "recommendation")
        pipeline.zrange(finished_key(user_id), 0, -1)
        *found, finished = await pipeline.execute()
        sections: dict[str, Any] = {}
        for kind, data in zip(kinds, found, strict=True):
            held = parse(data)
            if held is not None and held.mapping_version == loaded.release.mapping_version:
                items = held.items[:limit]
                age = (now - held.created_at).total_seconds()
                sections[str(kind)] = _section(held.recommendation_id, Source.STORED, age, loaded, items)
            else:
                sections[str(kind)] = self._fallback(
                    loaded, kind, limit, frozenset(member.decode() for member in finished)
                )
            self._metrics.sections.labels(sections[str(kind)]["source"], loaded.id).inc()
        body: dict[str, Any] = {"user_id": user_id, "release": loaded.id, "recommendations": sections}
        if request.query_params.get("verbose") == "1":
            body["verbose"] = _digests(loaded)
        return _json(body, loaded)

    def _fallback(self, loaded: LoadedRelease, kind: Kind, limit: int, finished: frozenset[str]) -> dict[str, Any]:
        ranking = popular(
            loaded.contents, loaded.scorers[kind].popular, kind, subscribed=False, finished=finished, limit=limit
        )
        return _section(uuid.uuid4().hex, Source.FALLBACK, 0.0, loaded, ranking.items)

    async def predict(self, request: Request) -> Response:
        """Predict now, from the features as they are."""
        loaded = self._loaded()
        body = await _body(request)
        user_id = _user(body.get("user_id"), "user_id")
        kind = _kind(body.get("kind", Kind.TODAY), "kind", tuple(Kind))
        ask = Ask(
            request_id=request.state.request_id,
            user_id=user_id,
            kind=kind,
            happened=self._parts.clock(),
            trigger=None,
            limit=_limit(body.get("limit")),
        )
        made, digest = await self._predict(loaded, ask)
        self._metrics.sections.labels(str(made.source), loaded.id).inc()
        if made.refusal is not None:
            self._metrics.refusals.labels(made.refusal[:60]).inc()
        answer = section(made)
        if request.query_params.get("verbose") == "1":
            answer["verbose"] = _digests(loaded) | {"refusal": made.refusal, "features": digest}
        return _json(answer, loaded)

    async def _predict(self, loaded: LoadedRelease, ask: Ask) -> tuple[Prediction, list[dict[str, Any]]]:
        reader = self._reader(loaded)
        reading = reader.read(list(READ_FEATURES), {"user_id": [ask.user_id]}, now_us=to_micros(ask.happened))
        columns, finished = await asyncio.gather(reading, self._parts.redis.zrange(finished_key(ask.user_id), 0, -1))
        found = person(columns)
        known = frozenset(member.decode() for member in finished)
        work = partial(predict, loaded, ask, found, known, at=ask.happened, guard=self._parts.guard)
        made = await asyncio.to_thread(work) if loaded.scorers[ask.kind].waits else work()
        self._parts.served_log.add(made)
        return made, [{"view": view["view"], "status": view["status"]} for view in found.views]

    async def features(self, request: Request) -> Response:
        """Answer Feast's own request in Feast's own format; the mode header asks for enforced times to live."""
        loaded = self._loaded()
        asked = parse_request(loaded.plan, await _body(request), ON_DEMAND_FUNCTIONS)
        if any(len(values) > MAX_ENTITIES for values in asked.entities.values()):
            raise invalid("entities", f"at most {MAX_ENTITIES} entities can be asked for at once")
        text = request.headers.get(MODE_HEADER, Mode.COMPAT).lower()
        if text not in tuple(Mode):
            raise invalid(MODE_HEADER, f"expected compat or enforce, found {text[:40]!r}")
        now_us = to_micros(self._parts.clock())
        columns = await self._reader(loaded).read(asked.features, asked.entities, now_us=now_us, mode=Mode(text))
        return _json(to_response(asked, columns), loaded)

    async def events(self, request: Request) -> Response:
        """Take app events: the good ones go to the event stream in order, the others are kept aside with the reason."""
        body = await _body(request)
        given = body.get("events", [body])
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_EVENTS:
            raise invalid("events", f"expected a list of 1 to {MAX_EVENTS} events")
        now_us = to_micros(self._parts.clock())
        accepted: list[tuple[str, bytes]] = []
        rejected: list[tuple[bytes, str | None, str]] = []
        results: list[dict[str, Any]] = []
        for document in given:
            payload = orjson.dumps(document)
            event = parse_event(payload, now_us)
            event_id = document.get("event_id") if isinstance(document, dict) else None
            result: dict[str, Any] = {"event_id": event_id if isinstance(event_id, str) else None, "status": "accepted"}
            if isinstance(event, Malformed):
                rejected.append((payload, event.field, event.reason))
                result |= {"status": "rejected", "field": event.field, "reason": event.reason}
            else:
                accepted.append((event.user_id, payload))
            self._metrics.events.labels(result["status"]).inc()
            results.append(result)
        if accepted:
            await asyncio.to_thread(self._parts.put_events, accepted)
        if rejected:
            await asyncio.to_thread(self._parts.quarantine, rejected)
        return Response(orjson.dumps({"results": results}), 202, media_type="application/json")

    async def release(self, request: Request) -> Response:
        """Say which release this process answers with."""
        loaded = self._loaded()
        return _json(loaded.describe(), loaded)

    async def alive(self, request: Request) -> Response:
        """Say that the process answers."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """Say whether a release is loaded and Redis answers."""
        loaded = self._parts.following.current
        if loaded is None:
            return unavailable("no release is loaded yet").response()
        try:
            await self._parts.redis.ping()
        except Exception:  # noqa: BLE001  whatever ails Redis, this process is not ready
            return unavailable("Redis does not answer").response()
        return _json({"status": "ready", "release": loaded.id}, loaded)

    async def metrics(self, request: Request) -> Response:
        """Expose Prometheus metrics of this process."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _json(body: Any, loaded: LoadedRelease) -> Response:
    return Response(orjson.dumps(body), headers={RELEASE_HEADER: loaded.id}, media_type="application/json")


def _section(
    recommendation_id: str, source: Source, age: float, loaded: LoadedRelease, items: Sequence[Item]
) -> dict[str, Any]:
    return {
        "recommendation_id": recommendation_id,
        "source": str(source),
        "age_seconds": age,
        "release": loaded.id,
        "items": [item.model_dump() for item in items],
    }


def _digests(loaded: LoadedRelease) -> dict[str, Any]:
    return {**loaded.describe(), "at": datetime.now(UTC).isoformat()}


async def _body(request: Request) -> dict[str, Any]:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise Problem(413, "Content too large", f"at most {MAX_BODY} bytes are read")
        parts.append(part)
    try:
        body = orjson.loads(b"".join(parts))
    except orjson.JSONDecodeError:
        raise Problem(400, "Bad request", "the body is not JSON", field="body") from None
    if not isinstance(body, dict):
        raise invalid("body", "expected a JSON object")
    return body


def _user(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _USER.match(value):
        raise invalid(field, "expected 1 to 64 of A-Z, a-z, 0-9, _ and -")
    return value


def _kind(value: Any, field: str, allowed: Sequence[Kind]) -> Kind:
    if not isinstance(value, str) or value not in [str(kind) for kind in allowed]:
        raise invalid(field, f"expected one of {', '.join(allowed)}")
    return Kind(value)


def _kinds(text: str) -> list[Kind]:
    return list(dict.fromkeys(_kind(part.strip(), "kinds", PULL_KINDS) for part in text.split(",")))


def _limit(value: Any) -> int:
    if value is None:
        return DEFAULT_LIMIT
    text = str(value)
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= MAX_LIMIT:
        raise invalid("limit", f"expected a whole number from 1 to {MAX_LIMIT}")
    return int(text)
