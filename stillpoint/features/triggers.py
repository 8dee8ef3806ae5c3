"""The kinds of recommendation that an event asks for.

A pure table over on-time events. A replayed event asks for the same request again, and `messages.request_id` makes the
copies one.
"""

import numpy as np
import numpy.typing as npt

from stillpoint.app.events import Arrival
from stillpoint.clock import MINUTE
from stillpoint.encoder import Encoder
from stillpoint.events.types import Category, EventType
from stillpoint.messages import Kind

MAX_AGE_US = 5 * MINUTE
EXERTION_RISING = "biometrics.exertion_rising"

_PHRASES: dict[Category, tuple[str, ...]] = {
    Category.SLEEP: ("sleep", "fall asleep", "bedtime story", "insomnia", "deep sleep sounds for the night"),
    Category.FOCUS: ("focus", "concentration", "studying for an exam", "productive work", "attention"),
    Category.MOVE: ("exercise", "walking", "running workout", "yoga stretching", "move your body"),
    Category.MEDITATE: ("meditation", "mindfulness", "guided breathing", "body scan", "awareness practice"),
    Category.STRESS: ("stress", "anxiety relief", "panic", "calm down", "overwhelmed and worried"),
    Category.MUSIC: ("music", "songs", "piano playlist", "ambient soundtrack", "relaxing melodies"),
}


def requests_for(
    event: Arrival, *, now_us: int, searched: Category | None = None, rising: bool = False
) -> tuple[Kind, ...]:
    """Return the kinds of recommendation that an on-time event asks for, none if it is over 5 minutes old at `now_us`.

    `searched` is the category nearest to a search's query (`SearchedCategory`); `rising` says that a biometric turned
    `exertion_rising` true (`EXERTION_RISING` among what has turned).
    """
    if now_us - event.event_us > MAX_AGE_US:
        return ()
    if event.type == EventType.SEARCH:
        return (Kind.TODAY, Kind.NEXT) if searched is Category.SLEEP else (Kind.TODAY,)
    if event.type == EventType.CONTENT_EXIT:
        return (Kind.TODAY, Kind.SLEEP)
    if event.type == EventType.CONTENT_COMPLETE:
        return (Kind.TODAY, Kind.SLEEP, Kind.NEXT)
    if event.type == EventType.BIOMETRIC and rising:
        return (Kind.TODAY, Kind.NEXT)
    return ()


class SearchedCategory:
    """Classifies search queries: the category whose centroid, over a few phrases, is nearest to the query."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._categories = tuple(_PHRASES)
        centroids = np.stack([encoder.encode(phrases).astype(np.float64).mean(axis=0) for phrases in _PHRASES.values()])
        self._centroids: npt.NDArray[np.float64] = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)

    def of(self, query: str) -> Category | None:
        """Return the nearest category, or None if the query has no known word."""
        vector = self._encoder.encode([query])[0].astype(np.float64)
        if np.isnan(vector[0]):
            return None
        return self._categories[int(np.argmax(self._centroids @ vector))]
