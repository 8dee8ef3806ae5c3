"""A misbehaving or flooding client is let go while others are answered, over real connections."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

import inference.http.slow_clients
from inference.http.slow_clients import HEAD_BYTES, PatientProtocol
from stillpoint.local.process import free_port

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"


async def answering(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, whether or not the body has come."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(inference.http.slow_clients, "HEADER_SECONDS", 0.4)
    monkeypatch.setattr(inference.http.slow_clients, "MESSAGE_SECONDS", 0.4)
    chosen = free_port()
    config = uvicorn.Config(answering, port=chosen, http=PatientProtocol, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield chosen
    server.should_exit = True
    thread.join(10)


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts and return what comes back until the other side closes; what it no longer takes is not sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except ConnectionError:
            pass
        try:
            while part := connection.recv(65_536):
                received += part
        except ConnectionError:
            pass
        return received


@pytest.mark.parametrize("start", [HEAD + b"X-Much: ", b"GET /"], ids=["header", "line"])
def test_a_head_without_end_is_refused_before_it_fills_the_memory(port: int, start: bytes) -> None:
    answer = talk(port, start, *[b"a" * 65_536] * 200)
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"application/problem+json" in answer


def test_many_short_requests_in_one_go_are_no_long_head(port: int) -> None:
    count = 3 * HEAD_BYTES // len(HEAD)
    one = HEAD + b"Content-Length: 0\r\n\r\n"
    last = HEAD + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    assert talk(port, one * count + last).count(b"HTTP/1.1 200") == count + 1


@pytest.mark.parametrize(
    ("start", "drop"),
    [(HEAD, b"X-A: b\r\n"), (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n")],
    ids=["head", "body"],
)
def test_who_never_ends_a_request_is_let_go(port: int, start: bytes, drop: bytes) -> None:
    began = time.monotonic()
    talk(port, start, *[drop] * 40, pause=0.1)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +2\r\n",
        b"X-\xc3\x96: a\r\n",
    ],
    ids=["twice", "two lengths", "length and chunks", "signed", "name beyond ASCII"],
)
def test_a_request_that_two_servers_could_read_differently_is_refused(port: int, lines: bytes) -> None:
    answer = talk(port, HEAD + lines + b"\r\n{}")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"HTTP/1.1 200" not in answer
