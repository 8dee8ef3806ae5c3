"""The started service, with several processes, keeps its promises: nothing lost, nobody locked out, nothing told."""

import io
import json
import re
import socket
import subprocess
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from inference import openapi
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.local.redis_server import RedisServer
from stillpoint.releases.presence import present
from stillpoint.settings import Settings
from stillpoint.stores.redis.connection import connect
from tests.support.hand_made import HandMade, hand_made
from tests.support.service_process import COMMAND, ServiceProcess, environment, token_file
from tests.support.wellness import APP, FEATURES

pytestmark = pytest.mark.usefixtures("programs")

LEAKS = re.compile(rb"Traceback|File \"|\.py\b|site-packages|/work/|/home/|redis\.|botocore|starlette|uvicorn|Error\(")
KEY = "an erasure key of the tests"
USER = "person-4711-unmistakable"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> HandMade:
    home = tmp_path_factory.mktemp("service")
    connection = redis_server.connection_string
    lake = Lake(LocalObjects(home / "lake"), FEATURES)
    settings = Settings(
        _env_file=None,
        home=home,
        lake=lake.root,
        redis_green=connection,
        redis_blue=connection,
        redis_sandbox=connection,
        redis_state=connection,
        redis_serving=connection,
    )
    made = hand_made(lake, settings, project=f"stillpoint_{home.name}".replace("-", "_"))
    made.point()
    return made


@pytest.fixture(scope="module")
def service(made: HandMade) -> Iterator[ServiceProcess]:
    file, tokens = token_file(made.settings.home, {"all": ["admin"]})
    variables = environment(made.settings, STILLPOINT_HTTP_TOKENS=str(file))
    started = ServiceProcess(made.settings.home, variables, "--workers", "2", token=tokens["all"])
    yield started
    assert started.stop() == 0
    log = started.log
    assert USER not in log
    assert tokens["all"] not in log


def counted(exposition: str, metric: str, route: str) -> float:
    lines = [line for line in exposition.splitlines() if line.startswith(metric) and f'route="{route}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_metrics_of_all_processes_are_added_up_whichever_is_asked(service: ServiceProcess) -> None:
    route = "GET /v1/release"
    before = counted(httpx.get(f"{service.url}/metrics").text, "stillpoint_http_seconds_count", route)
    for _ in range(60):  # a connection each, so that both processes get some
        headers = {"Authorization": service.http.headers["Authorization"]}
        assert httpx.get(f"{service.url}/v1/release", headers=headers).status_code == 200
    for _ in range(6):
        exposition = httpx.get(f"{service.url}/metrics").text
        assert counted(exposition, "stillpoint_http_seconds_count", route) - before == 60
    service.http.post("/v1/recommendations", json={"user_id": USER})
    exposition = httpx.get(f"{service.url}/metrics").text
    assert 'stillpoint_feature_views_total{status="NOT_FOUND",view="user_profiles"}' in exposition
    assert USER not in exposition


def test_each_process_beats_with_the_port_that_was_asked_for(service: ServiceProcess, made: HandMade) -> None:
    found = present(connect(made.settings.redis_serving.get_secret_value()))
    ours = [one for one in found if one.address == f"127.0.0.1:{service.port}"]
    assert len({one.pid for one in ours}) == 2
    assert {one.release for one in ours} == {"r0001"}


def test_a_user_id_in_path_body_or_headers_never_reaches_the_log(service: ServiceProcess) -> None:
    service.http.get(f"/v1/users/{USER}/recommendations", headers={"X-User": USER, "User-Agent": USER})
    service.http.get(f"/v1/users/{USER}/recommendations?kinds={USER}")
    service.http.get(f"/{USER}")
    service.http.post("/v1/recommendations", json={"user_id": USER, USER: 1})
    service.http.post("/v1/recommendations", content=f"{{{USER}".encode())
    service.http.post("/get-online-features", json={"entities": {"user_id": [USER]}, "features": [f"{USER}:x"]})
    talk(service.port, f"GET /{USER} HTTP/9.9\r\n{USER}\r\n\r\n".encode())
    talk(
        service.port,
        f"GET /v1/users/{USER}/recommendations HTTP/1.1\r\nUpgrade: {USER}\r\nConnection: upgrade\r\n\r\n".encode(),
    )
    lines = service.lines()
    routes = {(line.get("method"), line.get("route"), line.get("status")) for line in lines}
    assert ("GET", "/v1/users/{user_id}/recommendations", 200) in routes
    assert ("POST", "/v1/recommendations", 400) in routes
    assert USER not in service.log
    answered = next(line for line in lines if line.get("route") == "/v1/recommendations")
    assert {"at", "request_id", "ms", "pid"} <= set(answered)


def test_no_page_of_another_origin_may_read_answers(service: ServiceProcess) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "GET"}
    for answer in (service.http.get("/v1/release", headers=asked), service.http.options("/v1/release", headers=asked)):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def talk(port: int, data: bytes) -> bytes:
    """Send bytes and return all that comes back until the other side is done or silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.settimeout(0.1)
        received = b""
        try:
            connection.sendall(data)
            while part := connection.recv(65_536):
                received += part
                head, found, body = received.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                if found and length and len(body) >= int(length[1]):
                    break
        except (TimeoutError, ConnectionError):
            pass
        return received


PATHS = st.sampled_from(
    ["/v1/recommendations", "/get-online-features", "/v1/users/u1/recommendations", "/v1/release", "/readyz", "/docs"]
)
NAMES = st.sampled_from(
    b"Content-Length Content-Type Transfer-Encoding X-Request-Id X-Stillpoint-Mode Authorization Connection Upgrade Host "
    b"Cookie Expect Accept-Encoding Range".split()
)
VALUES = st.one_of(
    st.binary(max_size=60).filter(lambda value: b"\r" not in value and b"\n" not in value),
    st.sampled_from(
        [b"chunked", b"-1", b"9" * 30, b"application/json", b"Bearer x", b"100-continue", b"h2c", b"\xff" * 300]
    ),
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"[" * 5000, b'{"user_id":"\\ud800"}', b'{"user_id":"u1","limit":1e400}', b'{"entities":{"user_id":[1e999]},']
    ),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["user_id", "kind", "limit", "entities", "features", "feature_service", "events"])
                | st.text(max_size=8),
                inner,
                max_size=5,
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)


def fuzz(service: ServiceProcess, examples: int) -> None:
    authorization = service.http.headers["Authorization"].encode()

    @hypothesis_settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(
        method=st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"TRACE", b"\x00\x01"]),
        path=PATHS.map(str.encode) | st.binary(min_size=1, max_size=40).map(lambda value: b"/" + value),
        headers=st.lists(st.tuples(NAMES | st.binary(min_size=1, max_size=10), VALUES), max_size=5),
        body=BODIES,
        honest=st.booleans(),
    )
    def run(method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes, honest: bool) -> None:
        lines = [b"%b %b HTTP/1.1" % (method, path), b"Authorization: " + authorization, b"Connection: close"]
        lines += [b"%b: %b" % header for header in headers]
        if honest:
            lines.append(b"Content-Length: %d" % len(body))
        answer = talk(service.port, b"\r\n".join(lines) + b"\r\n\r\n" + body)
        status = re.match(rb"HTTP/1.1 (\d+)", answer)
        assert status is None or int(status[1]) < 500, answer
        assert path in (b"/docs", b"/openapi.json") or LEAKS.search(answer) is None, answer

    run()
    assert service.http.get("/readyz").status_code == 200


def test_garbage_in_lines_headers_and_bodies_gives_no_5xx_and_no_sight_of_the_inside(service: ServiceProcess) -> None:
    fuzz(service, 150)
    assert not [line for line in service.lines() if line["level"] == "error"]


@pytest.mark.soak
def test_much_garbage_gives_no_5xx_and_no_sight_of_the_inside(service: ServiceProcess) -> None:
    fuzz(service, 5_000)


def test_two_hundred_slow_senders_keep_nobody_out(service: ServiceProcess) -> None:
    authorization = service.http.headers["Authorization"].encode()
    starts = [
        b"GET /v1/release HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /v1/recommendations HTTP/1.1\r\nAuthorization: %b\r\nContent-Length: 100\r\n\r\n{" % authorization,
    ]
    slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(200)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(starts[number % 2])
        for _ in range(20):
            answer = httpx.post(
                f"{service.url}/v1/recommendations", json={"user_id": "u1"}, headers=service.http.headers, timeout=2
            )
            assert (answer.status_code, answer.json()["source"]) == (200, "model")
        slow[0].settimeout(10)
        slow[1].settimeout(10)
        assert slow[0].recv(100) == b""  # given up
        assert b" 408 " in slow[1].recv(100)
    finally:
        for connection in slow:
            connection.close()


def test_a_stop_under_load_loses_no_request(made: HandMade) -> None:
    """Clients do as behind a load balancer: they leave when they are asked to, and do not come back."""
    service = ServiceProcess(made.settings.home, environment(made.settings), "--workers", "2")
    outcomes: Counter[str] = Counter()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=10) as client:
            while True:
                try:
                    answer = client.post("/v1/recommendations", json={"user_id": "u1"})
                except httpx.TransportError as error:
                    outcomes[type(error).__name__] += 1
                    return
                outcomes[str(answer.status_code)] += 1
                if answer.headers.get("connection") == "close":
                    outcomes["left"] += 1
                    return

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    end = time.monotonic() + 60
    while outcomes["200"] <= 20:
        assert time.monotonic() < end, "the service answers too slowly to be stopped under load"
        time.sleep(0.01)
    assert service.stop() == 0
    for client in clients:
        client.join(10)
    assert set(outcomes) == {"200", "left"}, outcomes
    assert outcomes["left"] == 8
    rows = made.lake.read("served", columns=["user_id"]).num_rows
    assert rows >= outcomes["200"]


def test_a_service_without_tokens_refuses_to_listen_beyond_loopback(made: HandMade) -> None:
    with pytest.raises(AssertionError, match=r"would listen on 0\.0\.0\.0 without tokens; set STILLPOINT_HTTP_TOKENS"):
        ServiceProcess(made.settings.home, environment(made.settings), "--host", "0.0.0.0")
    with pytest.raises(AssertionError, match="without tokens"):
        ServiceProcess(made.settings.home, environment(made.settings, STILLPOINT_HTTP_OPEN="false"))


def test_a_password_of_redis_is_neither_logged_by_the_service_nor_shown_by_status(
    made: HandMade, redis_factory: Any
) -> None:
    password = "hunter2-unmistakable"
    server = redis_factory({"requirepass": password})
    secret = f"127.0.0.1:{server.port},db=0,password={password}"
    wrong = f"127.0.0.1:{server.port},db=0,password=wrong-{password}"
    settings = made.settings.model_copy(
        update={"redis_serving": SecretStr(secret), "redis_green": SecretStr(wrong), "redis_blue": SecretStr(wrong)}
    )
    service = ServiceProcess(settings.home, environment(settings), "--workers", "1", ready="/healthz")
    assert service.http.get("/readyz").status_code == 503
    service.stop()
    assert "the release book cannot be followed" in service.log
    assert password not in service.log
    status = subprocess.run(
        [*COMMAND[:-1], "status"],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
        cwd=settings.home,
    )
    assert str(server.port) in status.stdout
    assert password not in status.stdout + status.stderr


def test_an_answer_is_explained_over_http_once_it_is_in_the_served_log(service: ServiceProcess) -> None:
    answer = service.http.post("/v1/recommendations", json={"user_id": "u1", "limit": 3}).json()
    path = f"/v1/recommendations/{answer['recommendation_id']}/explanation"
    end = time.monotonic() + 15
    while (explained := service.http.get(path)).status_code == 404 and time.monotonic() < end:
        time.sleep(0.2)
    document = explained.json()
    assert (document["user_id"], document["source"], document["release"]) == ("u1", "model", "r0001")
    assert list(document["contributions"]) == [item["content_id"] for item in answer["items"]]
    assert {view["view"]: view["status"] for view in document["views"]}["user_profiles"] == "PRESENT"
    unknown = service.http.get(f"/v1/recommendations/{'0' * 32}/explanation")
    assert (unknown.status_code, unknown.json()["field"]) == (404, "recommendation_id")


def test_a_user_is_exported_and_erased_over_http_and_only_by_an_admin(made: HandMade, tmp_path: Path) -> None:
    file, tokens = token_file(tmp_path, {"admin": ["admin"], "app": ["read", "predict"]})
    variables = environment(made.settings, STILLPOINT_HTTP_TOKENS=str(file), STILLPOINT_ERASURE_KEY=KEY)
    service = ServiceProcess(tmp_path, variables, "--workers", "1", token=tokens["admin"])
    try:
        app = {"Authorization": f"Bearer {tokens['app']}"}
        assert service.http.get("/v1/users/u7/export", headers=app).status_code == 403
        assert service.http.post("/v1/users/u7/erasure", headers=app).status_code == 403
        made.client.hset("stillpoint:rec:u7:today:r0001", mapping={"order": "1", "recommendation": "{}"})
        archive = service.http.get("/v1/users/u7/export", timeout=60)
        with zipfile.ZipFile(io.BytesIO(archive.content)) as parts:
            assert "stillpoint:rec:u7:today:r0001" in parts.read("stored.json").decode()
        path = "/v1/users/u7/erasure"
        assert service.http.get(path, headers=app).status_code == 403
        assert service.http.get(path).status_code == 404
        asked = service.http.post(path)
        assert (asked.status_code, asked.headers["Location"], asked.json()["status"]) == (202, path, "pending")
        service.stop()  # in the midst of it
        service = ServiceProcess(tmp_path, variables, "--workers", "1", token=tokens["admin"])
        end = time.monotonic() + 150
        while (state := service.http.get(path)).json()["status"] == "pending" and time.monotonic() < end:
            time.sleep(0.2)
        assert (state.status_code, state.json()["status"]) == (200, "done")
        components = openapi.document(APP.events)["components"]
        schema = {**components["schemas"]["ErasureStatus"], "components": components}
        for answer in (asked, state):
            Draft202012Validator(schema).validate(answer.json())
        assert not made.client.exists("stillpoint:rec:u7:today:r0001")
        assert '"u7"' not in service.log
    finally:
        service.stop()
