"""Runs the HTTP server: address, processes, folder of metrics, and what it refuses to start with."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.http.tuning import one_thread_per_process
from stillpoint.errors import InvalidSettings
from stillpoint.local.process import refuse_address
from stillpoint.settings import Settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def refuse_open_address(settings: Settings, host: str) -> None:
    """Refuse to serve without tokens, unless on loopback and allowed by the settings.

    Raises:
        InvalidSettings: the text says what to set.
    """
    if (
        settings.http_tokens is None
        and settings.http_jwt_issuer is None
        and (host not in LOOPBACK or not settings.http_open)
    ):
        raise InvalidSettings(
            f"the service would listen on {host} without tokens; set STILLPOINT_HTTP_TOKENS or STILLPOINT_HTTP_JWT_ISSUER, or bind to 127.0.0.1"
        )


def run_service(settings: Settings, *, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        InvalidSettings: the address is not loopback and there are no tokens; tokens, keys or certificate cannot be read.
    """
    refuse_open_address(settings, host)
    one_thread_per_process()
    if settings.http_tokens is not None:
        from inference.tokens import Tokens

        Tokens.load(settings.http_tokens)  # one clear error here, rather than one in every process
    for name, file in (("CERTIFICATE", settings.http_certificate), ("KEY", settings.http_key)):
        if file is not None and not os.access(file, os.R_OK):
            raise InvalidSettings(f"STILLPOINT_HTTP_{name}: {file} cannot be read")
    if settings.http_jwt_keys is not None:
        from inference.http.json_web_tokens import key_set

        key_set(settings.http_jwt_keys).close()
    with (
        tempfile.TemporaryDirectory(prefix="stillpoint-metrics-") as folder,
        _variables(STILLPOINT_HTTP_HOST=host, STILLPOINT_HTTP_PORT=str(port), PROMETHEUS_MULTIPROC_DIR=folder),
    ):
        _run("inference.http.app:create_app", host, port, workers, settings.http_certificate, settings.http_key)


@contextmanager
def _variables(**told: str) -> Iterator[None]:
    """Tell the processes that are started inside the block; afterwards the environment is as before."""
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_fixtures(*, host: str, port: int) -> None:
    """Serve made-up answers in one process until SIGTERM or Ctrl-C.

    Raises:
        InvalidSettings: the address is not loopback, where made-up answers could be taken for real ones.
    """
    if host not in LOOPBACK:
        raise InvalidSettings(f"made-up answers would be served on {host}; they are for 127.0.0.1 only")
    _run("inference.http.fixtures:create_app", host, port, 1)


def _run(
    application: str, host: str, port: int, workers: int, certificate: Path | None = None, key: Path | None = None
) -> None:
    refuse_address("the HTTP service", host, port, "give --port")
    import uvicorn

    from inference.http.logs import configuration

    # uvicorn raises the signal again when it has stopped: exit normally then, so that the metrics folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    uvicorn.run(
        application,
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http="inference.http.slow_clients:PatientProtocol",
        ws="none",
        log_config=configuration(access=True),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
