"""The demo's three users: what they do, and in which direction their recommendations should move."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from stillpoint.events.types import Category, EventType
from stillpoint.messages import Kind

Event = dict[str, Any]
Section = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """One user's story. `count` measures a list; it should rise if `grows`, else fall."""

    title: str
    told: str
    kind: Kind
    feature: str
    shown: tuple[str, ...]
    make: Callable[[str, datetime, Sequence[str]], list[Event]]
    measure: str
    count: Callable[[Section], int]
    grows: bool


def _event(user: str, kind: EventType, happened: datetime, **fields: Any) -> Event:
    return {
        "schema_version": 1,
        "event_id": str(uuid.uuid4()),
        "user_id": user,
        "type": str(kind),
        "event_timestamp": happened.isoformat(),
        "platform": "ios",
        **fields,
    }


def search(user: str, now: datetime, query: str) -> list[Event]:
    """Return the events of one search."""
    return [_event(user, EventType.SEARCH, now, query=query)]


def _search(user: str, now: datetime, stories: Sequence[str]) -> list[Event]:
    return search(user, now, "preparing for big exam")


def _abandon(user: str, now: datetime, stories: Sequence[str]) -> list[Event]:
    events = []
    for number, content_id in enumerate(stories[:3]):
        started = now - timedelta(seconds=60 - 20 * number)
        play = {"play_id": f"{user}-{started:%H%M%S%f}", "content_id": content_id, "category": str(Category.SLEEP)}
        events.append(_event(user, EventType.CONTENT_START, started, **play))
        events.append(
            _event(user, EventType.CONTENT_EXIT, started + timedelta(seconds=12), **play, position_seconds=12)
        )
    return events


def _walk(user: str, now: datetime, stories: Sequence[str]) -> list[Event]:
    """Nine samples, a minute apart: resting, then walking with a rising pulse for the last three."""
    events = []
    for minute in range(9):
        walking = max(0, minute - 5)
        sample = {"heart_rate_bpm": 68 + 14 * walking, "steps": 95 if walking else 2}
        events.append(_event(user, EventType.BIOMETRIC, now - timedelta(minutes=8 - minute), **sample))
    return events


_FIRST = 10


def is_sleep_story(item: Mapping[str, Any]) -> bool:
    """Say whether a content is a sleep story, as the simulated catalogue titles them."""
    return item["category"] == Category.SLEEP and ("Story" in item["title"] or "Tale" in item["title"])


def _of(category: Category) -> Callable[[Section], int]:
    return lambda section: sum(item["category"] == category for item in section["items"][:_FIRST])


def _stories(section: Section) -> int:
    return sum(is_sleep_story(item) for item in section["items"][:_FIRST])


STORIES = (
    Story(
        title="A search",
        told='searches for "preparing for big exam"',
        kind=Kind.TODAY,
        feature="search_embeddings:search_count_24h",
        shown=("search_embeddings:search_count_24h", "search_embeddings:search_embedding"),
        make=_search,
        measure="Focus contents among the ten",
        count=_of(Category.FOCUS),
        grows=True,
    ),
    Story(
        title="Three abandoned sleep stories",
        told="starts three sleep stories and leaves each after twelve seconds",
        kind=Kind.SLEEP,
        feature="session_bounce_rates:session_sleep_bounce_rate",
        shown=(
            "session_bounce_rates:session_sleep_play_count",
            "session_bounce_rates:session_sleep_bounce_rate",
        ),
        make=_abandon,
        measure="sleep stories among the ten",
        count=_stories,
        grows=False,
    ),
    Story(
        title="A walk with a rising pulse",
        told="gets up and walks; the watch reports pulse and steps",
        kind=Kind.TODAY,
        feature="biometrics:exertion_rising",
        shown=(
            "biometrics:heart_rate_slope_10m",
            "biometrics:steps_trend_10m",
            "biometrics:exertion_rising",
        ),
        make=_walk,
        measure="Move contents among the ten",
        count=_of(Category.MOVE),
        grows=True,
    ),
)
