"""Scrapes of a metrics page, kept for a quarter of an hour: rates need more than one."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from console.reading.exposition import Exposition

EVERY_SECONDS = 2.0
KEPT_SECONDS = 900.0


class Sampler:
    """The latest scrapes of one address. `fetch` returns the page's text, or raises."""

    def __init__(self, fetch: Callable[[], str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fetch, self._monotonic = fetch, monotonic
        self._kept: deque[Exposition] = deque(maxlen=round(KEPT_SECONDS / EVERY_SECONDS))

    def sample(self) -> Sequence[Exposition]:
        """Scrape once more, unless the last scrape is recent, and return all that are kept, oldest first."""
        now = self._monotonic()
        if not self._kept or now - self._kept[-1].at >= EVERY_SECONDS * 0.75:
            self._kept.append(Exposition.parse(self._fetch(), at=now))
        return tuple(self._kept)

    def forget(self) -> None:
        """Begin anew, as for a process that was started again."""
        self._kept.clear()
