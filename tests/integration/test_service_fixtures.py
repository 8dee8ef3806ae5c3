"""A client developer can work against the service with nothing but this package."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from inference import openapi
from inference.http.fixtures import FILE, Fixtures
from inference.http.routes import ENDPOINTS, FIXTURES_HEADER
from stillpoint.clock import system_clock
from tests.support.service_process import ServiceProcess
from tests.support.wellness import APP, PARSER

LOGIN = {
    "schema_version": 1,
    "type": "login",
    "event_id": "0b8f6a1e-3c5d-4e7f-8a9b-0c1d2e3f4a5b",
    "user_id": "u1",
    "event_timestamp": "2026-01-01T00:00:00Z",
    "platform": "ios",
}
REQUESTS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/users/u1/recommendations?kinds=today,sleep&limit=3&verbose=1", None),
    ("POST", "/v1/recommendations?verbose=1", {"user_id": "u1", "kind": "next"}),
    ("GET", f"/v1/recommendations/{'ab' * 16}/explanation", None),
    (
        "POST",
        "/get-online-features",
        {"entities": {"user_id": ["u1", "u2"]}, "features": ["user_profiles:locale", "x:y"]},
    ),
    ("POST", "/v1/events", {"events": [LOGIN, {"type": "login"}]}),
    ("GET", "/v1/release", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
]


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Fixtures(orjson.loads(FILE.read_bytes()), parser=PARSER, clock=system_clock).app) as client:
        yield client


def operation_of(method: str, path: str) -> Any:
    """Return the description of the operation that answers this request."""
    parts = path.partition("?")[0].split("/")
    for template, methods in openapi.document(APP.events)["paths"].items():
        named = template.split("/")
        if len(named) == len(parts) and all(
            one == other or one.startswith("{") for one, other in zip(named, parts, strict=True)
        ):
            return methods[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS, ids=[path for _, path, _ in REQUESTS])
def test_every_made_up_answer_fits_the_description_is_marked_and_never_changes(
    client: TestClient, method: str, path: str, body: Any
) -> None:
    answer = client.request(method, path, json=body)
    described = operation_of(method, path)["responses"][str(answer.status_code)]["content"]["application/json"][
        "schema"
    ]
    schema = {**described, "components": openapi.document(APP.events)["components"]}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(answer.json())
    assert answer.headers[FIXTURES_HEADER] == "true"
    assert client.request(method, path, json=body).json() == answer.json()


def test_every_endpoint_has_a_made_up_answer(client: TestClient) -> None:
    asked = {(method, operation_of(method, path)["operationId"]) for method, path, _ in REQUESTS}
    plain = {"metrics", "openapi", "docs"}
    of_no_user = {"export_user", "erase_user", "user_erasure"}
    assert {name for _, name in asked} | plain | of_no_user == {str(one.name) for one in ENDPOINTS}
    assert client.get("/v1/users/u1/export").status_code == 404
    assert all(client.get(path).status_code == 200 for path in ("/metrics", "/openapi.json", "/docs"))


def test_bad_questions_are_refused_as_the_service_refuses_them(client: TestClient) -> None:
    answer = client.post("/v1/recommendations", json={"user_id": "no spaces please"})
    assert (answer.status_code, answer.json()["field"]) == (422, "user_id")


@pytest.mark.usefixtures("programs")
def test_fixtures_start_at_once_without_any_server(tmp_path: Path) -> None:
    nothing = {
        "STILLPOINT_HOME": str(tmp_path / "home"),
        "STILLPOINT_AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        **{f"STILLPOINT_REDIS_{name}": "127.0.0.1:1,db=0" for name in ("GREEN", "BLUE", "SERVING")},
    }
    service = ServiceProcess(tmp_path, {**os.environ, **nothing}, "--fixtures")
    print(f"fixtures answered {service.start_seconds:.2f} s after the command")
    try:
        assert service.http.get("/v1/release").headers[FIXTURES_HEADER] == "true"
        assert [one.name for one in (tmp_path / "home").iterdir()] == ["run"], "only the record of the process itself"
    finally:
        assert service.stop() == 0
