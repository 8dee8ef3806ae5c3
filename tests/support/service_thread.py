"""The HTTP service in a thread of the test's process, on a free port: the real application and server, quick to start, open to mutants."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from inference.http.app import create_app
from stillpoint.local.process import free_port
from stillpoint.settings import Settings
from tests.support.service_process import told

WAIT_SECONDS = 60.0


@contextmanager
def service_thread(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    certificate: tuple[Path, Path] | None = None,
    ready: str = "/readyz",
    trusting: ssl.SSLContext | bool = True,
) -> Iterator[str]:
    """Serve with these settings inside the block, and yield the address once `ready` answers.

    With a certificate and its key it serves HTTPS, and is asked by whom `trusting` says.
    """
    port = free_port()
    for name, value in told(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STILLPOINT_HTTP_HOST", "127.0.0.1")
    monkeypatch.setenv("STILLPOINT_HTTP_PORT", str(port))
    monkeypatch.setattr("inference.http.app.logging.config.dictConfig", lambda _: None)  # the test's logging stays
    server = uvicorn.Server(
        uvicorn.Config(
            create_app,
            factory=True,
            host="127.0.0.1",
            port=port,
            http="inference.http.slow_clients:PatientProtocol",
            ws="none",
            log_config=None,
            ssl_certfile=None if certificate is None else certificate[0],
            ssl_keyfile=None if certificate is None else certificate[1],
        )
    )
    thread = threading.Thread(target=server.run, name="service", daemon=True)
    thread.start()
    url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not _answers(url + ready, trusting):
            assert thread.is_alive(), "the service ended by itself"
            assert time.monotonic() < deadline, "the service is not ready"
            time.sleep(0.05)
        yield url
    finally:
        server.should_exit = True
        thread.join(WAIT_SECONDS)


def _answers(url: str, trusting: ssl.SSLContext | bool) -> bool:
    try:
        return httpx.get(url, timeout=1, verify=trusting).status_code == 200
    except httpx.TransportError:
        return False
