"""Who may see and do what: sessions behind bearer tokens, and the door that every request passes.

With a tokens file a browser signs in once with a token; a cookie then names a session of this process, which holds the
token in memory. Each request, each message of an open page and each verb asks the tokens anew, so that a revoked token
ends at once. Without tokens, on loopback only, everything is allowed, as the service does; then requests must name a
loopback host, so that no web page elsewhere can reach the console under a name of its own.
"""

import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from inference.http.identity import Bearers
from inference.http.problems import Problem
from inference.http.server import LOOPBACK
from inference.scopes import Scope as TokenScope
from stillpoint.cli.operator import operator

COOKIE = "stillpoint_console"
SIGN_IN = "/sign-in"
ALIVE = "/healthz"
SESSION_SECONDS = 12 * 3_600.0
_KEPT = 1_000
_HEADERS = (
    (b"content-security-policy", (
     b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
     b"script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; frame-ancestors 'none'; form-action 'self'; "
     b"base-uri 'self'")),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Access:
    """What one browser may do. `authorization` is what it asks the service with; None where no tokens are needed."""

    tokens: Bearers | None
    authorization: str | None = None

    def may(self, scope: TokenScope) -> bool:
        """Ask now whether a scope is allowed."""
        if self.tokens is None:
            return True
        try:
            self.tokens.demand(self.authorization, scope)
        except Problem:
            return False
        return True

    @property
    def who(self) -> str:
        """Name who this is, for the release book and the audit log.

        Raises:
            Problem: the token may not read any more.
        """
        if self.tokens is None:
            return f"{operator()} (console)"
        return f"{self.tokens.demand(self.authorization, TokenScope.READ).name} (console)"

    @property
    def admin(self) -> bool:
        return self.may(TokenScope.ADMIN)


@dataclass(slots=True)
class Sessions:
    """The sessions of this process: a random name in a cookie, and the header that it stands for."""

    _held: dict[str, tuple[float, str]] = field(default_factory=dict)

    def begin(self, authorization: str) -> str:
        """Keep a header and return the session's name."""
        now = time.monotonic()
        self._held = {name: one for name, one in self._held.items() if one[0] > now}
        while len(self._held) >= _KEPT:
            del self._held[next(iter(self._held))]
        name = secrets.token_urlsafe(32)
        self._held[name] = (now + SESSION_SECONDS, authorization)
        return name

    def end(self, name: str | None) -> None:
        if name is not None:
            self._held.pop(name, None)

    def authorization(self, name: str | None) -> str | None:
        """Return the header of a session, None if there is no such session or it has ended."""
        found = None
        for known, one in self._held.items():
            if name is not None and hmac.compare_digest(known.encode(), name.encode()):
                found = one
        return found[1] if found is not None and found[0] > time.monotonic() else None


class Door:
    """ASGI middleware that lets nobody in without a session, whatever they ask for: pages, assets, messages."""

    def __init__(self, app: ASGIApp, *, tokens: Bearers | None, sessions: Sessions) -> None:
        self._app, self._tokens, self._sessions = app, tokens, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["path"] == ALIVE:
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _refuse(scope, receive, send, refused)
            return

        async def sending(message: Mapping[str, object]) -> None:
            if message["type"] == "http.response.start":
                given: list[tuple[bytes, bytes]] = list(message.get("headers", []))  # type: ignore[call-overload]
                message = {**message, "headers": [*given, *_HEADERS]}
            await send(dict(message))

        await self._app(scope, receive, sending)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        origin, host = headers.get("origin"), headers.get("host", "")
        if self._tokens is None and (urlsplit(f"//{host}").hostname or "") not in LOOPBACK:
            return Response("this console is open on this machine only; ask for it as http://127.0.0.1", 421)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if changes and origin is not None and urlsplit(origin).netloc != host:
            return Response("a page of another origin may not speak to the console", 403)
        access = access_of(headers, self._tokens, self._sessions)
        scope.setdefault("state", {})["access"] = access
        if scope["path"] == SIGN_IN or access.may(TokenScope.READ):
            return None
        if scope["type"] == "http" and "text/html" in headers.get("accept", ""):
            return RedirectResponse(SIGN_IN, 303)
        return Response("sign in first", 401)


def session_name(headers: Headers) -> str | None:
    """Return the session that a request's cookie names."""
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def access_of(headers: Headers, tokens: Bearers | None, sessions: Sessions) -> Access:
    """Return what a request may do: by its own `Authorization`, else by its session's."""
    if tokens is None:
        return Access(None)
    return Access(tokens, headers.get("authorization") or sessions.authorization(session_name(headers)))


async def _refuse(scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403})
    else:
        await answer(scope, receive, send)
