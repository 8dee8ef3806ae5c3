"""A story told to the running sandbox: events through the normal door, features that move, a list that is ranked anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import httpx

from console.sources import Sources
from inference.http.server import LOOPBACK
from simulation.demo.stage import DemoFailed
from simulation.demo.stories import STORIES, Event, Story, is_sleep_story, search
from simulation.demo.watch import ServiceClient
from stillpoint.errors import DataRefused, StackUnavailable
from stillpoint.messages import Kind

LONGEST_QUERY = 200
PATIENCE_SECONDS = 60.0
_SEARCH, _ABANDON, _WALK = STORIES


class Deed(StrEnum):
    """What the user of a trial does."""

    SEARCH = "search"
    ABANDON = "abandon"
    WALK = "walk"


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a list; `was` is its place before, None for one that was not on it."""

    title: str
    category: str
    was: int | None


@dataclass(frozen=True, slots=True)
class Moved:
    """A feature before and after."""

    name: str
    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a deed; milliseconds are counted from the moment before the events were sent."""

    deed: Deed
    user_id: str
    kind: Kind
    events: int
    before: tuple[Place, ...]
    after: tuple[Place, ...]
    features: tuple[Moved, ...]
    accepted_ms: float
    readable_ms: float
    stored_ms: float


def is_sandbox(sources: Sources) -> bool:
    """Return whether the event stream is the stand-in on this machine, and not one that real users are behind."""
    url = sources.settings.aws_endpoint_url
    return url is not None and (urlsplit(url).hostname or "") in LOOPBACK


def try_it(sources: Sources, deed: Deed, user_id: str, query: str, *, authorization: str | None) -> Trial:
    """Send the deed's events as the app would, and wait until the stored list is one that they triggered.

    Raises:
        DataRefused: the event stream is a real one; or nothing changed in time, with what did not.
        StackUnavailable: the service does not answer.
    """
    if not is_sandbox(sources):
        raise DataRefused("this event stream is not the sandbox's; nothing was sent")
    story = {Deed.SEARCH: _SEARCH, Deed.ABANDON: _ABANDON, Deed.WALK: _WALK}[deed]
    sources.ask("GET", "/readyz")
    headers = {} if authorization is None else {"Authorization": authorization}
    with ServiceClient(sources.service, headers=headers) as client:
        shown = _features_of(sources, story)
        awaited = story.feature if deed is not Deed.ABANDON else "session_bounce_rates:session_play_count"
        try:
            made = _events(sources, client, story, deed, user_id, query)
            told = client.tell(user_id, story.kind, awaited, shown, made, patience=PATIENCE_SECONDS)
        except DemoFailed as error:
            raise DataRefused(str(error)) from error
        except httpx.HTTPError as error:
            raise StackUnavailable(f"the HTTP service at {sources.service} gave no answer: {error}") from error
    return Trial(
        deed=deed,
        user_id=user_id,
        kind=story.kind,
        events=len(made),
        before=_places(told.before, ()),
        after=_places(told.after, [one["content_id"] for one in told.before["items"]]),
        features=tuple(
            Moved(name, _plain(told.features_before[name]), _plain(told.features_after[name])) for name in shown
        ),
        accepted_ms=told.accepted_ms,
        readable_ms=told.readable_ms,
        stored_ms=told.stored_ms,
    )


def _events(
    sources: Sources, client: ServiceClient, story: Story, deed: Deed, user_id: str, query: str
) -> Sequence[Event]:
    now = sources.clock()
    if deed is Deed.SEARCH and query.strip():
        return search(user_id, now, query.strip()[:LONGEST_QUERY])
    offered = client.predict(user_id, Kind.SLEEP)["items"]
    stories = [item["content_id"] for item in sorted(offered, key=is_sleep_story, reverse=True)]
    return story.make(user_id, now, stories)


def _features_of(sources: Sources, story: Story) -> tuple[str, ...]:
    name = story.feature.partition(":")[0]
    return tuple(f"{name}:{feature.name}" for feature in sources.lake.features.view(name))


def _places(section: Mapping[str, Sequence[Mapping[str, str]]], before: Sequence[str]) -> tuple[Place, ...]:
    return tuple(
        Place(
            item["title"],
            item["category"],
            before.index(item["content_id"]) + 1 if item["content_id"] in before else None,
        )
        for item in section["items"]
    )


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
