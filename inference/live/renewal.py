"""Decides when a loaded release must read its contents anew: periodically, and at once after a catalogue command."""

from collections.abc import Callable

REFRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0

ReadChangeToken = Callable[[], bytes | None]
"""Returns a different value after each catalogue change that serving must see at once."""


class Renewal:
    """Decides when contents must be read anew. `change_token` is called at every `due`; if it fails, nothing has changed."""

    def __init__(self, change_token: ReadChangeToken, *, seconds: float, monotonic: Callable[[], float]) -> None:
        self._change_token = change_token
        self._seconds = seconds
        self._monotonic = monotonic
        self._due_at = 0.0
        self._not_before = 0.0
        self._seen: bytes | None = None
        self._pending: bytes | None = None

    def loaded(self) -> None:
        """Note that another release was swapped in. It may have been loaded long ago, so later changes are due at once."""
        self._due_at = self._monotonic() + self._seconds
        self._not_before = 0.0
        self._seen = None

    def due(self) -> bool:
        """Return whether contents must be read anew now; the caller reads them and calls `done` or `failed`."""
        now = self._monotonic()
        if now < self._not_before:
            return False
        self._pending = self._current_token()
        return now >= self._due_at or self._pending != self._seen

    def done(self) -> None:
        """Note that contents were read after the last `due`."""
        self._seen = self._pending
        self._due_at = self._monotonic() + self._seconds

    def failed(self) -> None:
        """Note that contents could not be read: `due` returns True again after `RETRY_SECONDS`."""
        now = self._monotonic()
        self._not_before = now + min(RETRY_SECONDS, self._seconds)
        self._due_at = min(self._due_at, self._not_before)

    def _current_token(self) -> bytes | None:
        try:
            return self._change_token()
        except Exception:  # noqa: BLE001  without Redis, contents are still read anew periodically
            return self._seen
