"""The live release as a serving process loads it, kept while it is live; and what explanations need beside it."""

import threading
import time
from functools import cached_property

from console.sources import Sources
from inference.live.loaded_release import LoadedRelease, load_live, with_fresh_contents
from inference.predictions.served_lookup import ServedLookup
from stillpoint.app.load import load_app
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.features.streamed.history import AppHistory
from stillpoint.releases.book import ObjectReleaseBook


class LiveModel:
    """Loads at first use. Models behind an endpoint are scored here, by the bundle that the endpoint holds. Thread-safe."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._kept: LoadedRelease | None = None
        self._refresh_at = 0.0
        self.lookup = ServedLookup(sources.lake)

    def current(self) -> LoadedRelease:
        """Return the live release.

        Raises:
            ReleaseRefused: nothing is live, or a part of it is not as recorded. StackUnavailable: lake or Redis is away.
        """
        sources = self._sources
        with self._lock:
            book = ObjectReleaseBook(sources.lake.objects)
            pointer, kept, now = book.live(), self._kept, sources.clock()
            if kept is None or pointer is None or (kept.id, kept.generation) != (pointer.release, pointer.generation):
                kept = load_live(book, sources.lake, sources.settings, now=now)
                self._refresh_at = time.monotonic() + sources.settings.contents_refresh
            elif time.monotonic() >= self._refresh_at:
                kept = with_fresh_contents(kept, sources.lake, now=now)
                self._refresh_at = time.monotonic() + sources.settings.contents_refresh
            self._kept = kept
            return kept

    @cached_property
    def history(self) -> AppHistory:
        """The app's streamed views over recorded events."""
        return AppHistory(load_app(self._sources.settings.app), RememberingEncoder(WordLlamaEncoder()))
