"""The page where a browser shows its token once, and the way out."""

from html import escape

from fastapi import APIRouter, Form, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from console.access import COOKIE, SESSION_SECONDS, SIGN_IN, Access, Sessions, session_name
from console.pages.frame import HEAD
from inference.http.identity import Bearers
from inference.scopes import Scope


def sign_in(tokens: Bearers, sessions: Sessions) -> APIRouter:
    """Return the routes of signing in and out."""
    router = APIRouter()

    @router.get("")
    async def show(request: Request, out: bool = False) -> Response:
        if out:
            sessions.end(session_name(request.headers))
        answer = HTMLResponse(_page())
        if out:
            answer.delete_cookie(COOKIE)
        return answer

    @router.post("")
    async def enter(request: Request, token: str = Form("", max_length=512)) -> Response:
        authorization = f"Bearer {token.strip()}"
        if not Access(tokens, authorization).may(Scope.READ):
            wrong = "This token is unknown or may not read. `python -m inference.tokens NAME read` makes one."
            return HTMLResponse(_page(wrong), 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            sessions.begin(authorization),
            max_age=round(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    return router


def _page(wrong: str = "") -> str:
    said = f'<div class="alarm" role="alert"><p>{escape(wrong)}</p></div>' if wrong else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width, initial-scale=1'><title>Sign in · Stillpoint</title>{HEAD}</head><body><main class='page'>"
        f"<section class='panel' style='max-width:440px;margin:12vh auto 0;width:100%'><h1>Stillpoint</h1>{said}"
        f"<form method='post' action='{SIGN_IN}' class='stack'><div class='field' style='flex:none'>"
        "<label for='token'>Bearer token with the scope read or admin</label>"
        "<input id='token' name='token' type='password' autocomplete='current-password' required autofocus></div>"
        "<div class='acts'><button class='act first'>Sign in</button></div></form></section></main></body></html>"
    )
