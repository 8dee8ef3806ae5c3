"""The HTTP service: recommendations, features and events for the app and for services.

One Starlette application per process. A request takes the loaded release once and names it in its answer. What is
recommended is decided in `predict` and `rank`; every request passes `admission` first.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from inference.http.admission import Admission, AdmissionLimits, application
from inference.http.draining import drain_on_sigterm
from inference.http.event_intake import events_in, sort_events
from inference.http.handlers import handlers_of
from inference.http.identity import Bearers
from inference.http.metrics import Metrics
from inference.http.online_features import OnlineFeatures
from inference.http.personal_data import PersonalData
from inference.http.pools import Pool
from inference.http.problems import Problem, invalid, unavailable
from inference.http.requests import (
    DEFAULT_LIMIT,
    header_in,
    kind_of,
    kinds_of,
    limit_in,
    limit_of,
    parse_object,
    query_in,
    recommendation_id_of,
    refuse_unknown,
    user_of,
    verbose_in,
)
from inference.http.routes import MODE_HEADER, RELEASE_HEADER, OperationName
from inference.http.tuning import keep_what_is_loaded
from inference.live.loaded_release import LoadedRelease
from inference.live.watcher import LiveReleaseWatcher
from inference.predictions.predict import ALIKE, Guard, Prediction, PredictionTask, Source, predict
from inference.predictions.section import section
from inference.predictions.served_log import ServedLog
from inference.predictions.user_store import UserStore
from inference.ranking.rank import rank_by_popularity
from inference.ranking.user_features import Refusal
from stillpoint.clock import Clock, to_micros
from stillpoint.errors import CorruptData, StackUnavailable, StillpointError
from stillpoint.events.parsing import PayloadParser
from stillpoint.experiments import Experiment
from stillpoint.messages import Kind, StoredRecommendation
from stillpoint.stores.reading.reader import AsyncOnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.client import AsyncRedisClient

PutEvents = Callable[[Sequence[tuple[str, bytes]]], None]
"""Puts accepted payloads on the event stream, in order, or raises. Called in a thread."""
Quarantine = Callable[[Sequence[tuple[bytes, str | None, str]]], None]
"""Keeps rejected payloads with field and reason. Called in a thread."""
Explain = Callable[[str, LoadedRelease], Mapping[str, Any] | None]
"""Returns the explanation of a recommendation, or None if it was never served. Called in a thread."""


PUTTING, SCORING, EXPLAINING = 8, 16, 2
"""Threads of a process that send events to stream or quarantine, that wait for a model endpoint, and that explain."""


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """The clients and functions of the application, built by the entry point."""

    following: LiveReleaseWatcher
    redis: AsyncRedisClient
    async_reader: Callable[[LoadedRelease], AsyncOnlineReader]
    put_events: PutEvents
    quarantine: Quarantine
    explain: Explain
    served_log: ServedLog
    clock: Clock
    guard: Guard
    parser: PayloadParser
    tokens: Bearers | None
    """None admits requests without a token; the entry point allows that on loopback only."""
    experiment: Experiment = ALIKE
    personal_data: PersonalData | None = None
    """None: this service neither exports nor erases users."""
    limits: AdmissionLimits = field(default_factory=AdmissionLimits)
    metrics: Metrics = field(default_factory=Metrics)
    guarded: Collection[OperationName] = ()
    """Endpoints that are usually open and need a token here."""


class Service:
    """The handlers. `app` is the ASGI application."""

    def __init__(self, parts: ServiceParts) -> None:
        self._parts = parts
        self._metrics = parts.metrics
        self._store = UserStore(parts.redis, self._make_reader)
        self._features = OnlineFeatures(self._store.reader)
        at_once = parts.limits.at_once
        self._putting = Pool("events", threads=PUTTING, waiting=at_once)
        self._scoring = Pool("predictions", threads=SCORING, waiting=at_once)
        self._explaining = Pool("explanations", threads=EXPLAINING, waiting=EXPLAINING)
        self.admission = Admission(parts.metrics, limits=parts.limits, tokens=parts.tokens, guarded=parts.guarded)
        more = {} if parts.personal_data is None else parts.personal_data.handlers()
        handlers = handlers_of(self, parts.parser.events, more)
        self.app = application(self.admission, handlers, self._life)

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self._parts.following.start)
        if self._parts.personal_data is not None:
            self._parts.personal_data.worker.start()
        keep_what_is_loaded()
        with drain_on_sigterm(self.admission):
            yield
        if self._parts.personal_data is not None:
            self._parts.personal_data.worker.close()
        await asyncio.to_thread(self._parts.following.close)
        await asyncio.to_thread(self._parts.served_log.close)
        for pool in (self._putting, self._scoring, self._explaining):
            pool.close()
        self._metrics.close()

    def _loaded(self) -> LoadedRelease:
        loaded = self._parts.following.current
        if loaded is None:
            raise unavailable("no release is loaded yet")
        return loaded

    def _make_reader(self, loaded: LoadedRelease) -> AsyncOnlineReader:
        self._metrics.release(loaded.id, str(loaded.release.colour), loaded.generation)
        return self._parts.async_reader(loaded)

    async def stored(self, request: Request) -> Response:
        """Answer with the stored recommendation of each kind, or with popular contents marked as fallback."""
        started = time.perf_counter()
        loaded = self._loaded()
        asked = query_in(request, "kinds", "limit", "verbose")
        user_id = user_of(request.path_params["user_id"])
        request.state.caller.refuse_other(user_id)
        kinds = kinds_of(asked.get("kinds", "today"))
        limit, verbose = limit_in(asked.get("limit")), verbose_in(asked.get("verbose"))
        found: dict[Kind, StoredRecommendation] = {}
        finished: frozenset[str] = frozenset()
        reason = "nothing stored"
        try:
            found, finished = await self._store.stored(loaded, user_id, kinds)
        except StackUnavailable:
            reason = "store away"
        started = self._metrics.stage(OperationName.STORED, "read", started)
        now = self._parts.clock()
        withheld = loaded.contents.withheld_at(to_micros(now))
        sections: dict[str, Any] = {}
        for kind in kinds:
            held = found.get(kind)
            items = [item for item in held.items if item.content_id not in withheld] if held is not None else []
            if held is not None and items:
                age = max(0.0, (now - held.created_at).total_seconds())
                one = section(held.recommendation_id, Source.STORED, loaded.id, items[:limit], age_seconds=age)
                self._metrics.section(Source.STORED, kind, loaded.id)
            else:
                one = self._popular(loaded, uuid.uuid4().hex, kind, limit, finished, reason)
            sections[str(kind)] = one
        body: dict[str, Any] = {"user_id": user_id, "release": loaded.id, "recommendations": sections}
        if verbose:
            body["verbose"] = _digests(loaded, now)
        response = _json(body, loaded)
        self._metrics.stage(OperationName.STORED, "encode", started)
        return response

    def _popular(
        self,
        loaded: LoadedRelease,
        recommendation_id: str,
        kind: Kind,
        limit: int,
        finished: Collection[str],
        reason: str,
    ) -> dict[str, Any]:
        self._metrics.fallback(reason)
        self._metrics.section(Source.FALLBACK, kind, loaded.id)
        contents = loaded.contents.offered_at(to_micros(self._parts.clock()))
        ranking = rank_by_popularity(
            contents, loaded.scorers[kind].popular, kind, subscribed=False, finished=finished, limit=limit
        )
        return section(recommendation_id, Source.FALLBACK, loaded.id, ranking.items)

    async def predict(self, request: Request) -> Response:
        """Predict from the present features; answer popular contents, marked as fallback, if they cannot be read."""
        started = time.perf_counter()
        loaded = self._loaded()
        asked = query_in(request, "verbose")
        verbose = verbose_in(asked.get("verbose"))
        body = parse_object(request.state.body)
        refuse_unknown(body, ("user_id", "kind", "limit"))
        task = PredictionTask(
            request_id=request.state.request_id,
            user_id=user_of(body.get("user_id")),
            kind=kind_of(body.get("kind", Kind.TODAY), "kind", tuple(Kind)),
            happened=self._parts.clock(),
            trigger=None,
            limit=limit_of(body.get("limit", DEFAULT_LIMIT)),
        )
        request.state.caller.refuse_other(task.user_id)
        started = self._metrics.stage(OperationName.PREDICT, "unpack", started)
        try:
            columns, known = await self._store.features(loaded, task.user_id, task.happened)
            started = self._metrics.stage(OperationName.PREDICT, "read", started)
            found = loaded.users.decode_one(columns)
        except (StackUnavailable, CorruptData) as error:
            why = "features corrupt" if isinstance(error, CorruptData) else "store away"
            reason: str | None = why
            answer = self._popular(loaded, uuid.uuid4().hex, task.kind, task.limit, (), why)
            digest: list[dict[str, Any]] = []
        else:
            work = partial(
                predict,
                loaded,
                task,
                found,
                known,
                at=task.happened,
                guard=self._parts.guard,
                experiment=self._parts.experiment,
            )
            made = await self._scoring.run(work) if loaded.scorers[task.kind].waits else work()
            started = self._metrics.stage(OperationName.PREDICT, "rank", started)
            self._parts.served_log.add(made)
            self._count(made)
            answer, reason = section(made.recommendation_id, made.source, made.release, made.items), _reason(made)
            digest = [{"view": view["view"], "status": view["status"]} for view in found.seen]
        if verbose:
            answer["verbose"] = _digests(loaded, self._parts.clock()) | {"refusal": reason, "features": digest}
        response = _json(answer, loaded)
        self._metrics.stage(OperationName.PREDICT, "encode", started)
        return response

    def _count(self, made: Prediction) -> None:
        self._metrics.section(made.source, made.task.kind, made.release)
        self._metrics.views(made.user.seen)
        if made.refusal in tuple(Refusal):
            self._metrics.refusal(Refusal(made.refusal).name.lower())
        if (reason := _reason(made)) is not None:
            self._metrics.fallback(reason)

    async def explain(self, request: Request) -> Response:
        """Explain a recommendation: its features, and what each added to the score."""
        loaded = self._loaded()
        query_in(request)
        recommendation_id = recommendation_id_of(request.path_params["recommendation_id"])
        document = await self._explaining.run(partial(self._parts.explain, recommendation_id, loaded))
        caller = request.state.caller
        if document is None or caller.user_id not in (None, document["user_id"]):  # somebody else's is as unknown
            raise Problem(
                404,
                "Not found",
                "no recommendation of this id in the served log, which it reaches some seconds after the answer",
                field="recommendation_id",
            )
        return _json(document, loaded)

    async def features(self, request: Request) -> Response:
        """Answer Feast's own request in Feast's own format; the mode header asks for enforced times to live."""
        loaded = self._loaded()
        query_in(request)
        text = (header_in(request, MODE_HEADER) or Mode.COMPAT).lower()
        if text not in tuple(Mode):
            raise invalid(MODE_HEADER, "expected compat or enforce")
        body, now_us = parse_object(request.state.body), to_micros(self._parts.clock())
        return _json(await self._features.answer(loaded, body, now_us=now_us, mode=Mode(text)), loaded)

    async def events(self, request: Request) -> Response:
        """Accept app events: valid ones go to the event stream in order, the others to quarantine with the reason."""
        query_in(request)
        given = events_in(request.state.body)
        sorted_out = sort_events(given, to_micros(self._parts.clock()), self._parts.parser)
        for user_id, _ in sorted_out.accepted:
            request.state.caller.refuse_other(user_id)
        if sorted_out.accepted:
            await self._putting.run(partial(self._parts.put_events, sorted_out.accepted))
        if sorted_out.rejected:
            await self._putting.run(partial(self._parts.quarantine, sorted_out.rejected))
        for result in sorted_out.results:
            self._metrics.event(result["status"])
        return Response(orjson.dumps({"results": sorted_out.results}), 202, media_type="application/json")

    async def release(self, request: Request) -> Response:
        """Answer with the release that this process uses."""
        query_in(request)
        loaded = self._loaded()
        return _json(loaded.describe(), loaded)

    async def alive(self, request: Request) -> Response:
        """Answer that the process is alive."""
        return Response(b'{"status":"alive"}', media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """Answer 200 if a release is loaded, its features can be read, and the process was not asked to stop."""
        if self.admission.draining:
            raise unavailable("this process is about to stop")
        loaded = self._loaded()
        try:
            await self._store.features(loaded, "canary", self._parts.clock())
        except StillpointError:
            raise unavailable("the features of the release cannot be read") from None
        return _json({"status": "ready", "release": loaded.id}, loaded)

    async def metrics(self, request: Request) -> Response:
        """Expose the Prometheus metrics of all processes of this service."""
        exposition = await asyncio.to_thread(self._metrics.exposition)
        return Response(exposition, media_type=CONTENT_TYPE_LATEST)


def _json(body: Any, loaded: LoadedRelease) -> Response:
    return Response(orjson.dumps(body), headers={RELEASE_HEADER: loaded.id}, media_type="application/json")


def _digests(loaded: LoadedRelease, now: datetime) -> dict[str, Any]:
    return {**loaded.describe(), "at": now.isoformat()}


def _reason(made: Prediction) -> str | None:
    """Return why a prediction is a fallback, as one of a few fixed words: a model's own text may quote addresses."""
    if made.refusal is None:
        return None
    return made.refusal if made.refusal in tuple(Refusal) else "the model gave no scores"
