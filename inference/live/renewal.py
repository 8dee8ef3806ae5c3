"""What a release knows of contents is read anew when it is old, and at once when the catalogue was changed by a command."""

from collections.abc import Callable

REFRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0

News = Callable[[], bytes | None]
"""Returns another value after each change of the catalogue that must be seen at once."""


class Renewal:
    """Says when contents must be read anew. `news` is asked at every look; a failure of it counts as no news."""

    def __init__(self, news: News, *, seconds: float, monotonic: Callable[[], float]) -> None:
        self._news = news
        self._seconds = seconds
        self._monotonic = monotonic
        self._due_at = 0.0
        self._not_before = 0.0
        self._heard: bytes | None = None
        self._pending: bytes | None = None

    def loaded(self) -> None:
        """Note that another release has come. What was changed since it was loaded, possibly long ago, is due at once."""
        self._due_at = self._monotonic() + self._seconds
        self._not_before = 0.0
        self._heard = None

    def due(self) -> bool:
        """Say whether contents must be read anew now; then call `done`, or `failed`."""
        now = self._monotonic()
        if now < self._not_before:
            return False
        self._pending = self._asked()
        return now >= self._due_at or self._pending != self._heard

    def done(self) -> None:
        """Note that contents were read after the last `due`."""
        self._heard = self._pending
        self._due_at = self._monotonic() + self._seconds

    def failed(self) -> None:
        """Note that contents could not be read: it is due again, a little later."""
        now = self._monotonic()
        self._not_before = now + min(RETRY_SECONDS, self._seconds)
        self._due_at = min(self._due_at, self._not_before)

    def _asked(self) -> bytes | None:
        try:
            return self._news()
        except Exception:  # noqa: BLE001  whatever Redis's trouble, contents are read anew when they are old
            return self._heard
