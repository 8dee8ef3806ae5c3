"""Push consent: only users whose newest row in the lake's `users/` opts in may be pushed to."""

import threading
from datetime import datetime, timedelta

from stillpoint.clock import Clock
from stillpoint.lake.tables import Lake

REFRESH = timedelta(minutes=5)


class PushConsent:
    """Returns whether a user opted in. The lake's users are read again every `REFRESH`."""

    def __init__(self, lake: Lake, clock: Clock) -> None:
        self._lake = lake
        self._clock = clock
        self._known: frozenset[str] = frozenset()
        self._read_at: datetime | None = None
        self._lock = threading.Lock()

    def __call__(self, user_id: str) -> bool:
        with self._lock:
            now = self._clock()
            if self._read_at is None or now - self._read_at >= REFRESH:
                self._known = opted_in(self._lake)
                self._read_at = now
            return user_id in self._known


def opted_in(lake: Lake) -> frozenset[str]:
    """Return the ids of the users whose newest row opts in to pushes."""
    table = lake.read("users", columns=["user_id", "updated_at", "push_opt_in"]).sort_by("updated_at")
    newest = dict(zip(table["user_id"].to_pylist(), table["push_opt_in"].to_pylist(), strict=True))
    return frozenset(user for user, allowed in newest.items() if allowed)
