"""The service's endpoints with made-up, always equal answers, for client developers without a stack.

Requests are checked as the service checks them. Answers come from `fixtures.json`, and a header marks each as made up. It
needs no Redis, lake, release or model, and starts at once.
"""

import hashlib
import logging.config
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from inference.http.admission import Admission, AdmissionLimits, application
from inference.http.event_intake import events_in, sort_events
from inference.http.handlers import handlers_of
from inference.http.logs import configuration
from inference.http.metrics import Metrics
from inference.http.problems import invalid
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
from inference.http.routes import FIXTURES_HEADER, MODE_HEADER, RELEASE_HEADER, Handler
from inference.predictions.section import section
from stillpoint.app.load import load_app
from stillpoint.clock import Clock, system_clock, to_micros
from stillpoint.events.parsing import PayloadParser
from stillpoint.messages import Item, Kind
from stillpoint.settings import Settings

FILE = Path(__file__).with_name("fixtures.json")
AT = datetime(2026, 1, 1, tzinfo=UTC)
_SLEEPY = ("sleep", "music")
_REFERENCE = re.compile(r"[^:]+:[^:]+\Z")
_ASKED = ("entities", "features", "feature_service", "full_feature_names", "include_feature_view_version_metadata")


def create_app() -> Starlette:
    """Return the application; uvicorn calls it."""
    logging.config.dictConfig(configuration(access=True))
    parser = PayloadParser(load_app(Settings.load().app).events)
    return Fixtures(orjson.loads(FILE.read_bytes()), parser=parser, clock=system_clock).app


class Fixtures:
    """The handlers. The clock is used only to refuse events of the future."""

    def __init__(self, made_up: Mapping[str, Any], *, parser: PayloadParser, clock: Clock) -> None:
        self._made_up = made_up
        self._clock = clock
        self._parser = parser
        self._metrics = Metrics()
        handlers = handlers_of(self, parser.events, {})
        marked = {name: self._marked(handler) for name, handler in handlers.items()}
        self.app = application(Admission(self._metrics, limits=AdmissionLimits(), tokens=None), marked, None)

    def _marked(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            response = await handler(request)
            response.headers[FIXTURES_HEADER] = "true"
            return response

        return handle

    @property
    def _release(self) -> Mapping[str, Any]:
        return dict(self._made_up["release"])

    async def stored(self, request: Request) -> Response:
        """Answer with made-up recommendations of each kind."""
        asked = query_in(request, "kinds", "limit", "verbose")
        user_id, limit = user_of(request.path_params["user_id"]), limit_in(asked.get("limit"))
        sections = {
            str(kind): self._section(user_id, kind, limit, "stored", 30.0)
            for kind in kinds_of(asked.get("kinds", "today"))
        }
        body = {"user_id": user_id, "release": self._release["release"], "recommendations": sections}
        return self._json(body | ({"verbose": self._verbose()} if verbose_in(asked.get("verbose")) else {}))

    async def predict(self, request: Request) -> Response:
        """Answer with a made-up prediction."""
        asked = query_in(request, "verbose")
        body = parse_object(request.state.body)
        refuse_unknown(body, ("user_id", "kind", "limit"))
        kind = kind_of(body.get("kind", Kind.TODAY), "kind", tuple(Kind))
        answer = self._section(
            user_of(body.get("user_id")), kind, limit_of(body.get("limit", DEFAULT_LIMIT)), "model", 0.0
        )
        if verbose_in(asked.get("verbose")):
            views = [{"view": view["view"], "status": view["status"]} for view in self._made_up["explanation"]["views"]]
            answer["verbose"] = self._verbose() | {"refusal": None, "features": views}
        return self._json(answer)

    async def explain(self, request: Request) -> Response:
        """Answer with the made-up explanation, whatever id is asked for."""
        query_in(request)
        recommendation_id = recommendation_id_of(request.path_params["recommendation_id"])
        return self._json(self._made_up["explanation"] | {"recommendation_id": recommendation_id})

    async def features(self, request: Request) -> Response:
        """Answer Feast's request with made-up values of the features that are known, and null for all others."""
        query_in(request)
        if (header_in(request, MODE_HEADER) or "compat").lower() not in ("compat", "enforce"):
            raise invalid(MODE_HEADER, "expected compat or enforce")
        body = parse_object(request.state.body)
        refuse_unknown(body, _ASKED)
        entities, rows = _entities(body)
        names, vectors = list(entities), [_vector(values, "PRESENT") for values in entities.values()]
        known: Mapping[str, Any] = self._made_up["features"]
        for reference in _references(body, known):
            value = known.get(reference)
            view, _, name = reference.partition(":")
            names.append(f"{view}__{name}" if _flag(body, "full_feature_names") else name)
            vectors.append(_vector([value] * rows, "NOT_FOUND" if value is None else "PRESENT"))
        metadata: dict[str, Any] = {"feature_names": names}
        if _flag(body, "include_feature_view_version_metadata"):
            views = dict.fromkeys(reference.partition(":")[0] for reference in _references(body, known))
            metadata["feature_view_metadata"] = [{"name": view} for view in views]
        return self._json({"results": vectors, "metadata": metadata})

    async def events(self, request: Request) -> Response:
        """Judge events as the service does, and keep nothing."""
        query_in(request)
        given = events_in(request.state.body)
        results = sort_events(given, to_micros(self._clock()), self._parser).results
        return Response(orjson.dumps({"results": results}), 202, media_type="application/json")

    async def release(self, request: Request) -> Response:
        """Answer with the made-up release."""
        query_in(request)
        return self._json(self._release)

    async def alive(self, request: Request) -> Response:
        """Answer that the process is alive."""
        return self._json({"status": "alive"})

    async def ready(self, request: Request) -> Response:
        """Answer that the process is ready, always."""
        return self._json({"status": "ready", "release": self._release["release"]})

    async def metrics(self, request: Request) -> Response:
        """Expose this process's metrics."""
        return Response(self._metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _section(self, user_id: str, kind: Kind, limit: int, source: str, age: float) -> dict[str, Any]:
        contents = self._made_up["contents"]
        chosen = [one for one in contents if kind is not Kind.SLEEP or one["category"] in _SLEEPY]
        items = [Item.model_validate(one) for one in chosen[: 1 if kind is Kind.NEXT else limit]]
        made_up_id = hashlib.sha256(f"{user_id}\x00{kind}\x00{source}".encode()).hexdigest()[:32]
        return section(made_up_id, source, self._release["release"], items, age_seconds=age)

    def _verbose(self) -> dict[str, Any]:
        return {**self._release, "at": AT.isoformat()}

    def _json(self, body: Mapping[str, Any]) -> Response:
        headers = {RELEASE_HEADER: self._release["release"]}
        return Response(orjson.dumps(body), headers=headers, media_type="application/json")


def _entities(body: Mapping[str, Any]) -> tuple[dict[str, list[Any]], int]:
    entities = body.get("entities")
    if not isinstance(entities, dict) or not all(isinstance(values, list) for values in entities.values()):
        raise invalid("entities", "expected an object of lists, one list of values per join key")
    if not all(type(value) in (str, int) for values in entities.values() for value in values):
        raise invalid("entities", "expected texts or whole numbers")
    lengths = {len(values) for values in entities.values()}
    if len(lengths) > 1:
        raise invalid("entities", "all join keys need equally many values")
    return entities, next(iter(lengths), 0)


def _references(body: Mapping[str, Any], known: Mapping[str, Any]) -> Sequence[str]:
    service, references = body.get("feature_service"), body.get("features", [])
    if not isinstance(references, list) or not all(
        isinstance(one, str) and _REFERENCE.match(one) for one in references
    ):
        raise invalid("features", 'expected a list of "view:feature"')
    if service is not None and not isinstance(service, str):
        raise invalid("feature_service", "expected a name")
    if service is None and not references:
        raise invalid("features", "name features or a feature_service")
    return references or list(known)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise invalid(name, "expected true or false")
    return value


def _vector(values: Sequence[Any], status: str) -> dict[str, Any]:
    rows = len(values)
    return {"values": list(values), "statuses": [status] * rows, "event_timestamps": ["1970-01-01T00:00:00Z"] * rows}
