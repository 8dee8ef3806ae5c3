"""An erasure is asked for over HTTP in a moment, whatever it takes, and its state is told to whoever asks."""

import asyncio
from typing import Literal
from urllib.parse import quote

import httpx
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from inference.http.admission import Admission, AdmissionLimits, application
from inference.http.metrics import Metrics
from inference.http.personal_data import PersonalData
from stillpoint.errors import StackUnavailable


class State(BaseModel):
    status: Literal["pending", "done"]


class Room:
    """What erases, as far as HTTP sees it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.woken = 0
        self.noted: list[tuple[str, str, str]] = []

    def note(self, action: str, user_id: str, by: str) -> None:
        assert user_id not in self.asked or action == "erase", "it is noted before it is done"
        self.noted.append((action, user_id, by))

    def ask(self, user_id: str) -> State:
        self.asked.append(user_id)
        return State(status="pending")

    def state(self, user_id: str) -> State | None:
        return State(status="pending") if user_id in self.asked else None

    def start(self) -> None: ...

    def wake(self) -> None:
        self.woken += 1

    def close(self) -> None: ...


def talk(room: Room, *requests: tuple[str, str]) -> list[httpx.Response]:
    async def main() -> list[httpx.Response]:
        gate = Admission(Metrics(), limits=AdmissionLimits(), tokens=None)
        handlers = PersonalData(lambda user_id: user_id.encode(), room, room, room.note).handlers()
        transport = httpx.ASGITransport(application(gate, handlers, None))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path) for method, path in requests]

    return asyncio.run(main())


def test_a_request_is_kept_at_once_and_says_where_to_ask() -> None:
    room, path = Room(), "/v1/users/u1/erasure"
    unknown, asked, again, state = talk(room, ("GET", path), ("POST", path), ("POST", path), ("GET", path))
    assert (unknown.status_code, unknown.json()["field"]) == (404, "user_id")
    assert (asked.status_code, asked.json(), again.status_code) == (202, {"status": "pending"}, 202)
    assert (asked.headers["Location"], asked.headers["Retry-After"], asked.headers["Cache-Control"]) == (
        path,
        "5",
        "no-store",
    )
    assert (state.status_code, state.json()) == (200, {"status": "pending"})
    assert (room.asked, room.woken) == (["u1", "u1"], 2)
    nobody = "nobody (no tokens are set)"
    assert room.noted == [("erase", "u1", nobody), ("erase", "u1", nobody)]


def test_an_export_is_noted_and_what_cannot_be_noted_is_not_exported() -> None:
    room = Room()
    (answer,) = talk(room, ("GET", "/v1/users/u1/export"))
    assert (answer.content, room.noted[0][:2]) == (b"u1", ("export", "u1"))

    def away(action: str, user_id: str, by: str) -> None:
        raise StackUnavailable("the lake does not answer")

    room.note = away  # type: ignore[method-assign]
    (answer,) = talk(room, ("GET", "/v1/users/u1/export"))
    assert answer.status_code == 503


@given(
    user=st.text(min_size=1, max_size=20),
    what=st.sampled_from(["erasure", "export"]),
    method=st.sampled_from(["GET", "POST"]),
)
def test_whatever_stands_for_an_id_gives_no_5xx_and_erases_nobody_else(user: str, what: str, method: str) -> None:
    room = Room()
    (answer,) = talk(room, (method, f"/v1/users/{quote(user, safe='', errors='replace')}/{what}"))
    assert answer.status_code < 500
    assert set(room.asked) <= {user}
