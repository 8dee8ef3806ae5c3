"""The demo's client of the service, and what it measures from outside."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from simulation.demo.stage import DemoFailed
from stillpoint.messages import Kind

PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class StoryResult:
    """One story's outcome. Milliseconds are counted from the moment before the events were posted."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]
    features_before: Mapping[str, Any]
    features_after: Mapping[str, Any]
    accepted_ms: float
    readable_ms: float
    stored_ms: float


class ServiceClient:
    """The service as an app sees it."""

    def __init__(self, address: str, *, headers: Mapping[str, str] | None = None) -> None:
        self._http = httpx.Client(base_url=address, headers=dict(headers or {}), timeout=10.0)

    def __enter__(self) -> "ServiceClient":
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def ready(self) -> bool:
        """Return whether the service answers and has a release."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def release(self) -> dict[str, Any]:
        return dict(self._http.get("/v1/release").raise_for_status().json())

    def predict(self, user: str, kind: Kind) -> dict[str, Any]:
        """Return a recommendation that is made now."""
        answer = self._http.post("/v1/recommendations", json={"user_id": user, "kind": kind, "limit": 10})
        return dict(answer.raise_for_status().json())

    def stored(self, user: str, kind: Kind) -> dict[str, Any]:
        """Return what is stored for the user, or the fallback."""
        answer = self._http.get(f"/v1/users/{user}/recommendations", params={"kinds": kind, "limit": 10})
        return dict(answer.raise_for_status().json()["recommendations"][kind])

    def features(self, user: str, names: Sequence[str]) -> dict[str, Any]:
        """Return features as they are now; None for what is missing or past its time to live."""
        answer = self._http.post(
            "/get-online-features",
            json={"features": list(names), "entities": {"user_id": [user]}},
            headers={"X-Stillpoint-Mode": "enforce"},
        ).raise_for_status()
        body = answer.json()
        columns = dict(zip(body["metadata"]["feature_names"], body["results"], strict=True))
        return {name: columns[name.partition(":")[2]]["values"][0] for name in names}

    def tell(
        self,
        user: str,
        kind: Kind,
        awaited: str,
        names: Sequence[str],
        events: Sequence[dict[str, Any]],
        *,
        patience: float = PATIENCE_SECONDS,
    ) -> StoryResult:
        """Post a user's events and wait until the stored recommendation is one that they triggered.

        The features count as readable once `awaited` has a value and any of `names` has changed.
        """
        before, features_before = self.predict(user, kind), self.features(user, names)
        held = self.stored(user, kind)
        started = time.perf_counter()
        answer = self._http.post("/v1/events", json={"events": list(events)}).raise_for_status()
        accepted = time.perf_counter()
        refused = [one for one in answer.json()["results"] if one["status"] != "accepted"]
        if refused:
            raise DemoFailed(f"the service rejected an event of the story: {refused[0]}")
        readable: float | None = None
        while time.perf_counter() - started < patience:
            if readable is None:
                held_now = self.features(user, list(dict.fromkeys([*names, awaited])))
                changed = any(held_now[name] != features_before[name] for name in names)
                if changed and held_now[awaited] not in (None, False, 0):
                    readable = time.perf_counter()
            found = self.stored(user, kind)
            if found["source"] == "stored" and found["recommendation_id"] != held["recommendation_id"]:
                done = time.perf_counter()
                return StoryResult(
                    before=before,
                    after=found,
                    features_before=features_before,
                    features_after=self.features(user, names),
                    accepted_ms=1_000 * (accepted - started),
                    readable_ms=1_000 * ((readable or done) - started),
                    stored_ms=1_000 * (done - started),
                )
            time.sleep(_POLL_SECONDS)
        where = (
            "the features did not change"
            if readable is None
            else "the features changed, but no recommendation was stored"
        )
        raise DemoFailed(
            f"nothing new for {user} within {patience:.0f} s: {where}; look at the logs of stream and worker"
        )


@dataclass(slots=True)
class LoadTally:
    """The counts of a load. An answer is mixed if its parts name different releases, models or mappings."""

    requests: int = 0
    failed: int = 0
    mixed: int = 0
    fallbacks: int = 0
    releases: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


class DemoLoad:
    """Requests predictions for many users, at a bounded rate, until stopped; a context manager."""

    def __init__(
        self,
        address: str,
        users: Sequence[str],
        *,
        per_second: float = 40.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`headers` go with every request, such as a token's."""
        self._address = address
        self._headers = dict(headers or {})
        self._users = users
        self._pause = 1.0 / per_second
        self._stop = threading.Event()
        self._pairs: dict[str, tuple[Any, ...]] = {}
        self.tally = LoadTally()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "DemoLoad":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(15)

    def _run(self) -> None:
        with httpx.Client(base_url=self._address, headers=self._headers, timeout=10.0) as http:
            number = 0
            while not self._stop.is_set():
                began = time.perf_counter()
                self._ask(http, self._users[number % len(self._users)])
                number += 1
                self._stop.wait(max(0.0, self._pause - (time.perf_counter() - began)))

    def _ask(self, http: httpx.Client, user: str) -> None:
        tally = self.tally
        tally.requests += 1
        began = time.perf_counter()
        try:
            answer = http.post(
                "/v1/recommendations", params={"verbose": "1"}, json={"user_id": user, "kind": "today", "limit": 5}
            )
            body = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            tally.failed += 1
            tally.examples.append(f"failed: {type(error).__name__}: {error}")
            return
        tally.milliseconds.append(1_000 * (time.perf_counter() - began))
        inside = body["verbose"]
        named = {answer.headers["X-Stillpoint-Release"], body["release"], inside["release"]}
        pair = (inside["read_plan_sha256"], inside["mapping_version"], tuple(sorted(inside["models"].items())))
        if len(named) != 1 or self._pairs.setdefault(body["release"], pair) != pair:
            tally.mixed += 1
            tally.examples.append(f"mixed: {sorted(named)} with mapping {inside['mapping_version']}")
        tally.fallbacks += body["source"] == "fallback"
        tally.releases[body["release"]] = tally.releases.get(body["release"], 0) + 1
