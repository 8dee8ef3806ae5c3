"""The handlers of all endpoints that an application answers, by name, with the description of just these."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from inference.http.description import docs, openapi
from inference.http.routes import Handler, OperationName
from stillpoint.app.events import Event


class EndpointMethods(Protocol):
    """What the service answers, and its fixtures too."""

    async def stored(self, request: Request) -> Response: ...
    async def predict(self, request: Request) -> Response: ...
    async def explain(self, request: Request) -> Response: ...
    async def features(self, request: Request) -> Response: ...
    async def events(self, request: Request) -> Response: ...
    async def release(self, request: Request) -> Response: ...
    async def alive(self, request: Request) -> Response: ...
    async def ready(self, request: Request) -> Response: ...
    async def metrics(self, request: Request) -> Response: ...


def handlers_of(
    answering: EndpointMethods, events: Sequence[type[Event]], more: Mapping[OperationName, Handler]
) -> dict[OperationName, Handler]:
    """Return the handlers, `more` among them. `events` are the types of the app, which the description shows."""
    handlers: dict[OperationName, Handler] = {
        OperationName.STORED: answering.stored,
        OperationName.PREDICT: answering.predict,
        OperationName.EXPLAIN: answering.explain,
        OperationName.FEATURES: answering.features,
        OperationName.EVENTS: answering.events,
        OperationName.RELEASE: answering.release,
        OperationName.ALIVE: answering.alive,
        OperationName.READY: answering.ready,
        OperationName.METRICS: answering.metrics,
        **more,
    }
    offered = {*handlers, OperationName.OPENAPI, OperationName.DOCS}
    return handlers | {OperationName.OPENAPI: openapi(offered, events), OperationName.DOCS: docs(offered, events)}
