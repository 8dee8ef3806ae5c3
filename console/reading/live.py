"""Which release is live, in one look at the pointer."""

from dataclasses import dataclass
from datetime import datetime

from console.sources import Sources
from stillpoint.releases.book import ObjectReleaseBook


@dataclass(frozen=True, slots=True)
class LiveRelease:
    """The pointer's newest generation, None where nothing was ever live."""

    release: str | None
    generation: int | None
    colour: str | None
    since: datetime | None


def live_release(sources: Sources) -> LiveRelease:
    """Read the pointer and the record that it names."""
    book = ObjectReleaseBook(sources.lake.objects)
    pointer = book.live()
    if pointer is None:
        return LiveRelease(None, None, None, None)
    return LiveRelease(pointer.release, pointer.generation, str(book.get(pointer.release).colour), pointer.at)
