"""Sends requests to a service at a steady rate and keeps every answer."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx

from release.rehearsal.history import RecordedAnswer


class RehearsalLoad:
    """Sends requests from several threads until it is stopped; `answers` holds every response."""

    def __init__(
        self,
        url: str,
        users: Sequence[str],
        *,
        rate: float,
        threads: int = 4,
        token: str | None = None,
        kind: str = "today",
        limit: int = 10,
    ) -> None:
        self._url, self._users, self._kind, self._limit = url.rstrip("/"), list(users), kind, limit
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._gap = threads / rate
        self.answers: list[RecordedAnswer] = []
        self.began = time.monotonic()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(place, threads)) for place in range(threads)]

    def __enter__(self) -> "RehearsalLoad":
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def now(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.began

    def _run(self, place: int, threads: int) -> None:
        number = place
        due = self.began + place * self._gap / threads
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=5.0) as client:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                self.answers.append(self._ask(client, number))
                number += threads
                due = max(due + self._gap, time.monotonic() - 1.0)

    def _ask(self, client: httpx.Client, number: int) -> RecordedAnswer:
        user = self._users[number % len(self._users)]
        at = self.now()
        retried = False
        while True:
            began = time.monotonic()
            try:
                response = self._send(client, user, number)
                seconds = time.monotonic() - began
                return read_answer(response, user, began=at, ended=self.now(), seconds=seconds, retried=retried)
            except httpx.TransportError as error:
                # A worker that dies drops its connections: send the request once more, as a load balancer does.
                if retried:
                    seconds = time.monotonic() - began
                    words = f"{type(error).__name__}: {error}"
                    return RecordedAnswer(
                        began=at, ended=self.now(), seconds=seconds, user_id=user, status=0, error=words, retried=True
                    )
                retried = True

    def _send(self, client: httpx.Client, user: str, number: int) -> httpx.Response:
        if number % 4 == 3:
            return client.get(f"/v1/users/{user}/recommendations", params={"kinds": self._kind, "verbose": "1"})
        body = {"user_id": user, "kind": self._kind, "limit": self._limit}
        return client.post("/v1/recommendations", params={"verbose": "1"}, json=body)


def read_answer(
    response: httpx.Response, user: str, *, began: float, ended: float, seconds: float, retried: bool
) -> RecordedAnswer:
    """Return a response as the record that the judge reads."""
    if response.status_code != 200:
        return RecordedAnswer(
            began=began,
            ended=ended,
            seconds=seconds,
            user_id=user,
            status=response.status_code,
            error=response.text[:200],
            retried=retried,
        )
    body: dict[str, Any] = response.json()
    sections = list(body["recommendations"].values()) if "recommendations" in body else [body]
    digests = body.get("verbose", {})
    named = [response.headers.get("x-stillpoint-release"), body.get("release"), digests.get("release")]
    named += [section.get("release") for section in sections]
    return RecordedAnswer(
        began=began,
        ended=ended,
        seconds=seconds,
        user_id=user,
        status=200,
        retried=retried,
        answered_user=body.get("user_id"),
        releases=tuple(name for name in named if name is not None),
        generation=digests.get("generation"),
        mapping_version=digests.get("mapping_version"),
        read_plan_sha256=digests.get("read_plan_sha256"),
        models=digests.get("models", {}),
        source=sections[0].get("source"),
        scores={item["content_id"]: item["score"] for section in sections for item in section["items"]},
    )
