"""The table of endpoints and the scope that each needs, for routing, documentation and fixtures."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request
from starlette.responses import Response

from inference.scopes import Scope

RELEASE_HEADER = "X-Stillpoint-Release"
MODE_HEADER = "X-Stillpoint-Mode"
FIXTURES_HEADER = "X-Stillpoint-Fixtures"
REQUEST_ID_HEADER = "X-Request-Id"

Handler = Callable[[Request], Awaitable[Response]]


class OperationName(StrEnum):
    """The operation ids."""

    STORED = "stored_recommendations"
    PREDICT = "predict_recommendation"
    EXPLAIN = "explain_recommendation"
    FEATURES = "online_features"
    EVENTS = "send_events"
    RELEASE = "live_release"
    ERASE = "erase_user"
    ERASURE = "user_erasure"
    EXPORT = "export_user"
    ALIVE = "alive"
    READY = "ready"
    METRICS = "metrics"
    OPENAPI = "openapi"
    DOCS = "docs"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path and method. `scope` None means that no token is needed; such endpoints answer even when saturated."""

    name: OperationName
    method: str
    path: str
    scope: Scope | None
    summary: str
    reads_body: bool = False
    patience: float = 1.0
    """Factor of the service's deadline within which it must answer."""
    for_users: bool = False
    """A user's own token may come here; the handler refuses what is not theirs (`Caller.refuse_other`)."""


ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        OperationName.STORED,
        "GET",
        "/v1/users/{user_id}/recommendations",
        Scope.READ,
        "What is stored of each kind for a user, or popular contents marked as fallback.",
        for_users=True,
    ),
    Endpoint(
        OperationName.PREDICT,
        "POST",
        "/v1/recommendations",
        Scope.PREDICT,
        "Predict now, from the features as they are.",
        reads_body=True,
        for_users=True,
    ),
    Endpoint(
        OperationName.EXPLAIN,
        "GET",
        "/v1/recommendations/{recommendation_id}/explanation",
        Scope.READ,
        "What a recommendation was made from, and what each feature added to its items.",
        patience=10.0,
        for_users=True,
    ),
    Endpoint(
        OperationName.FEATURES,
        "POST",
        "/get-online-features",
        Scope.READ,
        "Online features in the format of Feast's feature server.",
        reads_body=True,
    ),
    Endpoint(
        OperationName.EVENTS,
        "POST",
        "/v1/events",
        Scope.WRITE_EVENTS,
        "Take app events; each is accepted or rejected by itself.",
        reads_body=True,
        patience=5.0,
        for_users=True,
    ),
    Endpoint(
        OperationName.EXPORT,
        "GET",
        "/v1/users/{user_id}/export",
        Scope.ADMIN,
        "Everything that is known of one user, as a zip archive of readable files.",
        patience=30.0,
    ),
    Endpoint(
        OperationName.ERASE,
        "POST",
        "/v1/users/{user_id}/erasure",
        Scope.ADMIN,
        "Ask for a user to be erased everywhere. The request is kept until that is done; asking again meanwhile changes nothing.",
        patience=5.0,
    ),
    Endpoint(
        OperationName.ERASURE,
        "GET",
        "/v1/users/{user_id}/erasure",
        Scope.ADMIN,
        "Whether the erasure that was asked for is done, and its receipt.",
        patience=5.0,
    ),
    Endpoint(OperationName.RELEASE, "GET", "/v1/release", Scope.READ, "Which release this process answers with."),
    Endpoint(OperationName.ALIVE, "GET", "/healthz", None, "Whether the process answers."),
    Endpoint(
        OperationName.READY,
        "GET",
        "/readyz",
        None,
        "Whether a release is loaded, its features can be read, and nobody stops it.",
    ),
    Endpoint(OperationName.METRICS, "GET", "/metrics", None, "Prometheus metrics of all processes of this service."),
    Endpoint(OperationName.OPENAPI, "GET", "/openapi.json", None, "This description."),
    Endpoint(OperationName.DOCS, "GET", "/docs", None, "This description as an HTML page."),
)

Handlers = Mapping[OperationName, Handler]
"""The handler of each endpoint; an endpoint without a handler is not offered."""
