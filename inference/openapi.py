"""The OpenAPI 3.1 description of the HTTP service; `python -m inference.openapi` prints it.

Built from the table of endpoints and the schemas; `openapi.json` at the root of the repository is the committed output.
"""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from inference.http import schemas as shapes
from inference.http.event_intake import MAX_EVENTS
from inference.http.requests import DEFAULT_LIMIT, MAX_BODY, MAX_LIMIT, RECOMMENDATION_ID_PATTERN, REQUEST_ID_PATTERN
from inference.http.routes import (
    ENDPOINTS,
    FIXTURES_HEADER,
    MODE_HEADER,
    RELEASE_HEADER,
    REQUEST_ID_HEADER,
    Endpoint,
    OperationName,
)
from inference.tokens import CHALLENGE
from stillpoint.app.events import Event
from stillpoint.app.load import load_app
from stillpoint.cli.program import run_program
from stillpoint.events.schema import event_schema
from stillpoint.messages import PULL_KINDS, USER_ID_PATTERN
from stillpoint.settings import Settings

VERSION = "1"
_SHAPES: Mapping[OperationName, type[BaseModel]] = {
    OperationName.STORED: shapes.StoredRecommendations,
    OperationName.PREDICT: shapes.PredictionAnswer,
    OperationName.EXPLAIN: shapes.ExplanationAnswer,
    OperationName.FEATURES: shapes.FeatureAnswer,
    OperationName.EVENTS: shapes.EventResults,
    OperationName.RELEASE: shapes.ReleaseDescription,
    OperationName.ERASE: shapes.ErasureStatus,
    OperationName.ERASURE: shapes.ErasureStatus,
    OperationName.ALIVE: shapes.Alive,
    OperationName.READY: shapes.Ready,
}
_REQUEST_SHAPES: Mapping[OperationName, type[BaseModel]] = {
    OperationName.PREDICT: shapes.PredictionBody,
    OperationName.FEATURES: shapes.FeaturesBody,
}
_PROBLEMS = {
    400: "The body is not JSON, or not the gzip that it says.",
    401: "No token that is known.",
    403: "The token lacks the scope, or is a user's own and this is somebody else's.",
    404: "Nothing is known by this id.",
    408: "The body came too slowly.",
    413: f"The body is larger than {MAX_BODY} bytes, as it came or unpacked.",
    415: "The body has a `Content-Encoding` other than gzip; `Accept-Encoding` says what is taken.",
    422: "A field or parameter cannot be used, is unknown, or stands twice.",
    429: "This caller sends too many requests. Come back after `Retry-After`.",
    500: "The service failed; its log tells more under the request id.",
    503: "Saturated, too slow, about to stop, without a release, or a store is away. Come back after `Retry-After`.",
}
_HEADERS = {
    401: (CHALLENGE, "Challenge"),
    403: (CHALLENGE, "Challenge"),
    415: ("Accept-Encoding", "Encodings"),
    429: ("Retry-After", "RetryAfter"),
    503: ("Retry-After", "RetryAfter"),
}
_BODIES = {
    OperationName.EVENTS: "Each event is judged by itself and goes to the event stream as it was sent. A number such as 12.0 is an "
    "integer. Nothing may stand beside `events`.",
}
Schema = dict[str, Any]


def document(events: Sequence[type[Event]], offered: Collection[OperationName] = tuple(OperationName)) -> Schema:
    """Return the OpenAPI document of the offered endpoints as JSON-ready data."""
    paths: dict[str, Schema] = {}
    for endpoint in ENDPOINTS:
        if endpoint.name in offered:
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stillpoint",
            "version": VERSION,
            "description": "Recommendations and online features. Every answer comes from one release and names it in "
            f"`{RELEASE_HEADER}`. Errors are problem documents (RFC 9457). `{FIXTURES_HEADER}: true` marks the made-up "
            "answers of `stillpoint serve --fixtures`.",
        },
        "servers": [
            {"url": "http://127.0.0.1:8090", "description": "A service with the default settings, on its own machine."}
        ],
        "paths": paths,
        "components": {
            "schemas": _schemas(events),
            "headers": {
                "RequestId": {"schema": {"type": "string", "pattern": REQUEST_ID_PATTERN}},
                "Release": {"schema": {"type": "string"}},
                "Challenge": {"schema": {"type": "string"}, "description": "As RFC 6750 has it."},
                "Encodings": {"schema": {"type": "string", "const": "gzip"}},
                "RetryAfter": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds."},
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token with the operation's scope, or with `admin`: of the service's own file, or a "
                    "JSON Web Token of its issuer. A service on loopback may run without tokens.",
                }
            },
        },
    }


def text(events: Sequence[type[Event]], offered: Collection[OperationName] = tuple(OperationName)) -> str:
    """Return the document as JSON text, as it is committed."""
    return json.dumps(document(events, offered), indent=2, ensure_ascii=False) + "\n"


def _operation(endpoint: Endpoint) -> Schema:
    operation: Schema = {"operationId": str(endpoint.name), "summary": endpoint.summary}
    if endpoint.scope is not None:
        own = " A user's own token (scope `user`) reaches what is theirs." if endpoint.for_users else ""
        operation["description"] = f"Needs the scope `{endpoint.scope}`.{own}"
        operation["security"] = [{"bearer": []}]
    if parameters := _parameters(endpoint.name):
        operation["parameters"] = parameters
    if endpoint.reads_body:
        operation["requestBody"] = {
            "required": True,
            "description": f"Plain, or with `Content-Encoding: gzip`; at most {MAX_BODY} bytes, also unpacked. "
            + _BODIES.get(endpoint.name, ""),
            "content": {"application/json": {"schema": _request_schema(endpoint.name)}},
        }
    operation["responses"] = {str(code): answer for code, answer in sorted(_answers(endpoint).items())}
    return operation


def _answers(endpoint: Endpoint) -> dict[int, Schema]:
    headers: Schema = {REQUEST_ID_HEADER: {"$ref": "#/components/headers/RequestId"}}
    refused = [500]
    if endpoint.scope is not None:
        refused += [401, 403, 422, 429, 503]
    if endpoint.reads_body:
        refused += [400, 408, 413, 415]
    if endpoint.name in (OperationName.EXPLAIN, OperationName.ERASURE):
        refused.append(404)
    if endpoint.name is OperationName.READY:
        refused.append(503)
    answers: dict[int, Schema] = {}
    for status in refused:
        also = _HEADERS.get(status)
        answers[status] = {
            "description": _PROBLEMS[status],
            "headers": headers | ({} if also is None else {also[0]: {"$ref": f"#/components/headers/{also[1]}"}}),
            "content": {"application/problem+json": {"schema": _ref("ProblemDocument")}},
        }
    good = 202 if endpoint.name in (OperationName.EVENTS, OperationName.ERASE) else 200
    if endpoint.scope is not None and endpoint.name not in (
        OperationName.EVENTS,
        OperationName.EXPORT,
        OperationName.ERASE,
        OperationName.ERASURE,
    ):
        headers = headers | {RELEASE_HEADER: {"$ref": "#/components/headers/Release"}}
    done = "Done."
    if endpoint.name is OperationName.ERASE:
        done = "The request is kept. Ask at `Location`, after `Retry-After`, what has become of it."
        headers = headers | {
            "Location": {"schema": {"type": "string"}},
            "Retry-After": {"$ref": "#/components/headers/RetryAfter"},
        }
    answers[good] = {"description": done, "headers": headers, "content": _content(endpoint.name)}
    return answers


def _content(name: OperationName) -> Schema:
    match name:
        case OperationName.METRICS:
            return {"text/plain": {"schema": {"type": "string"}}}
        case OperationName.EXPORT:
            return {"application/zip": {"schema": {"type": "string", "format": "binary"}}}
        case OperationName.DOCS:
            return {"text/html": {"schema": {"type": "string"}}}
        case OperationName.OPENAPI:
            return {"application/json": {"schema": {"type": "object"}}}
    return {"application/json": {"schema": _ref(_SHAPES[name].__name__)}}


def _parameters(name: OperationName) -> list[Schema]:
    user = {
        "name": "user_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": USER_ID_PATTERN},
        "example": "u1",
    }
    verbose = {
        "name": "verbose",
        "in": "query",
        "description": "1 adds the release's digests.",
        "schema": {"type": "string", "enum": ["0", "1"]},
    }
    match name:
        case OperationName.STORED:
            kinds = {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "enum": [str(one) for one in PULL_KINDS]},
            }
            limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
            return [
                user,
                {"name": "kinds", "in": "query", "style": "form", "explode": False, "schema": kinds},
                {"name": "limit", "in": "query", "schema": limit},
                verbose,
            ]
        case OperationName.EXPORT | OperationName.ERASE | OperationName.ERASURE:
            return [user]
        case OperationName.PREDICT:
            return [verbose]
        case OperationName.EXPLAIN:
            pattern = {"type": "string", "pattern": RECOMMENDATION_ID_PATTERN}
            return [{"name": "recommendation_id", "in": "path", "required": True, "schema": pattern}]
        case OperationName.FEATURES:
            return [
                {
                    "name": MODE_HEADER,
                    "in": "header",
                    "description": "`compat` gives Feast's very values; `enforce` withholds what is past its time to live or of the future.",
                    "schema": {"type": "string", "enum": ["compat", "enforce"], "default": "compat"},
                }
            ]
    return []


def _request_schema(name: OperationName) -> Schema:
    if name is OperationName.EVENTS:
        many = {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS, "items": _ref("Event")}
        batch = {
            "type": "object",
            "required": ["events"],
            "properties": {"events": many},
            "additionalProperties": False,
        }
        return {"anyOf": [_ref("Event"), batch]}
    return _ref(_REQUEST_SHAPES[name].__name__)


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(events: Sequence[type[Event]]) -> Schema:
    answered = [(shape, "serialization") for shape in (*_SHAPES.values(), shapes.ProblemDocument)]
    asked = [(shape, "validation") for shape in _REQUEST_SHAPES.values()]
    _, found = models_json_schema([*answered, *asked], ref_template="#/components/schemas/{model}")  # type: ignore[list-item]
    return {**found["$defs"], "Event": event_schema(events)}


def main() -> None:
    """Print the description."""
    sys.stdout.write(text(load_app(Settings.load().app).events))


if __name__ == "__main__":
    raise SystemExit(run_program("inference.openapi", main, sys.argv[1:]))
