"""Nobody passes the door without a session or a token; a revoked one ends at once; other origins are turned away."""

import hashlib
import json

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from console.access import COOKIE, SIGN_IN, Access, Door, Sessions
from console.server import refuse_open_address
from console.sign_in import sign_in
from inference.scopes import Scope
from inference.tokens import Tokens
from stillpoint.errors import InvalidSettings
from stillpoint.settings import Settings


class Held:
    """Tokens that a test may change while they are in use."""

    def __init__(self, **scopes):
        self.set(**scopes)

    def set(self, **scopes):
        entries = [
            {"name": name, "sha256": hashlib.sha256(f"{name}-token".encode()).hexdigest(), "scopes": list(own)}
            for name, own in {"nobody": ["predict"], **scopes}.items()
        ]
        self._tokens = Tokens.load(_File(json.dumps({"tokens": entries}).encode()))

    def demand(self, authorization, scope, *, for_users=False):
        return self._tokens.demand(authorization, scope, for_users=for_users)


class _File:
    def __init__(self, data):
        self.read_bytes = lambda: data


def client_of(tokens, host="127.0.0.1:8095"):
    sessions, app = Sessions(), FastAPI()
    if tokens is not None:
        app.include_router(sign_in(tokens, sessions), prefix=SIGN_IN)

    @app.get("/")
    def page(request: Request):
        return {"admin": request.state.access.admin}

    @app.post("/act")
    def act():
        return "done"

    @app.websocket("/ws")
    async def talk(socket: WebSocket):
        await socket.accept()
        await socket.close()

    return TestClient(Door(app, tokens=tokens, sessions=sessions), base_url=f"http://{host}", follow_redirects=False)


def test_on_loopback_without_tokens_everything_is_allowed_but_under_another_name_nothing_is():
    assert client_of(None).get("/").json() == {"admin": True}
    assert client_of(None, "evil.example").get("/").status_code == 421


@pytest.mark.parametrize("path", ["/", "/anything", "/_nicegui/static/x.js"])
def test_without_a_session_there_is_only_the_way_to_sign_in(path):
    client = client_of(Held(ann=["admin"]))
    assert client.get(path).status_code == 401
    browser = client.get(path, headers={"accept": "text/html"})
    assert (browser.status_code, browser.headers["location"]) == (303, SIGN_IN)
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://127.0.0.1:8095/ws"):
        pass


def test_a_token_signs_in_once_reads_only_without_admin_and_ends_when_it_is_revoked():
    tokens = Held(ann=["admin"], bob=["read"])
    client = client_of(tokens)
    for name, admin in (("ann", True), ("bob", False)):
        entered = client.post(SIGN_IN, data={"token": f"{name}-token"})
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert f"{name}-token" not in cookie
        assert client.get("/").json() == {"admin": admin}
        with client.websocket_connect("ws://127.0.0.1:8095/ws"):
            pass
    tokens.set(ann=["admin"])
    assert client.get("/").status_code == 401


@pytest.mark.parametrize("token", ["", "wrong", "nobody-token", "bob-token\n"])
def test_an_unknown_token_or_one_that_may_not_read_is_refused_in_words(token):
    refused = client_of(Held()).post(SIGN_IN, data={"token": token})
    assert refused.status_code == 403
    assert "unknown or may not read" in refused.text
    assert COOKIE not in refused.headers.get("set-cookie", "")


def test_signing_out_ends_the_session_itself():
    client = client_of(Held(ann=["admin"]))
    client.post(SIGN_IN, data={"token": "ann-token"})
    kept = client.cookies[COOKIE]
    client.get(f"{SIGN_IN}?out=1")
    client.cookies.set(COOKIE, kept)
    assert client.get("/").status_code == 401


def test_a_page_of_another_origin_may_not_speak_to_the_console():
    client = client_of(None)
    assert client.post("/act", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/act", headers={"origin": "http://127.0.0.1:8095"}).status_code == 200
    with client.websocket_connect("ws://127.0.0.1:8095/ws", headers={"origin": "http://127.0.0.1:8095"}):
        pass
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://127.0.0.1:8095/ws", headers={"origin": "http://evil.example"}),
    ):
        pass


def test_answers_carry_a_policy_that_lets_nothing_be_loaded_from_elsewhere():
    policy = client_of(None).get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy


def test_elsewhere_than_on_loopback_it_does_not_start_without_tokens():
    settings = Settings(_env_file=None)
    refuse_open_address(settings, "127.0.0.1")
    with pytest.raises(InvalidSettings, match=r"the console would listen on 0\.0\.0\.0 without tokens"):
        refuse_open_address(settings, "0.0.0.0")


def test_what_a_browser_may_do_is_asked_each_time():
    tokens = Held(ann=["admin"])
    access = Access(tokens, "Bearer ann-token")
    assert access.may(Scope.WRITE_EVENTS)
    assert access.who == "service ann (console)"
    tokens.set()
    assert not access.may(Scope.READ)
