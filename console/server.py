"""Runs the console: one process, its pages behind their door, and what it refuses to start with."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from nicegui import ui
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from console.access import ALIVE, SIGN_IN, Door, Sessions
from console.desk import Desk
from console.pages import data, features, now, releases, runbook, trial, user
from console.sign_in import sign_in
from console.sources import Sources
from inference.http.identity import Bearers
from inference.http.server import LOOPBACK
from stillpoint.errors import InvalidSettings
from stillpoint.local.process import refuse_address
from stillpoint.settings import Settings

_FAVICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="13" fill="none" '
    'stroke="#3b6fe0" stroke-width="4"/><circle cx="16" cy="16" r="6" fill="#3b6fe0"/></svg>'
)
PAGES: Sequence[Callable[[Desk], None]] = (
    now.register,
    releases.register,
    features.register,
    user.register,
    trial.register,
    data.register,
    runbook.register,
)


def refuse_open_address(settings: Settings, host: str) -> None:
    """Refuse to run without tokens, unless on loopback and allowed by the settings, as the service does.

    Raises:
        InvalidSettings: the text says what to set.
    """
    named = settings.http_tokens is not None or settings.http_jwt_issuer is not None
    if not named and (host not in LOOPBACK or not settings.http_open):
        raise InvalidSettings(
            f"the console would listen on {host} without tokens; set STILLPOINT_HTTP_TOKENS or STILLPOINT_HTTP_JWT_ISSUER, "
            "or bind to 127.0.0.1"
        )


def application(desk: Desk, *, tokens: Bearers | None) -> ASGIApp:
    """Return the ASGI application. NiceGUI keeps its pages per process: of two applications the later one's count."""
    sessions = Sessions()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route(ALIVE, lambda: PlainTextResponse("ok"), include_in_schema=False)
    if tokens is not None:
        app.include_router(sign_in(tokens, sessions), prefix=SIGN_IN)
    for register in PAGES:
        register(desk)
    ui.run_with(
        app,
        title="Stillpoint",
        favicon=_FAVICON,
        dark=None,
        language="en-US",
        tailwind=False,
        binding_refresh_interval=None,
        reconnect_timeout=30.0,
        show_welcome_message=False,
    )
    return Door(app, tokens=tokens, sessions=sessions)


def run_console(settings: Settings, *, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        InvalidSettings: the address is not loopback and there are no tokens, or the tokens cannot be read.
    """
    refuse_open_address(settings, host)
    from inference.http.app import bearers

    tokens = bearers(settings)
    refuse_address("the console", host, port, "give --port, or set STILLPOINT_CONSOLE_PORT")
    import uvicorn

    uvicorn.run(
        application(Desk(Sources(settings)), tokens=tokens),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
    )
