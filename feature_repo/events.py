"""The app's events."""

from typing import Literal

from stillpoint.app import TAPS, VISIBLE, Annotated, Event, Family, Meta, Name

BIOMETRICS = Family(name="biometrics")
"""Watches deliver hourly, and are late only with regard to themselves."""

SHOWN = Family(name="impressions", allowed_lateness=None)

Category = Literal["sleep", "focus", "move", "meditate", "stress", "music"]
"""The categories of content."""


class Tap(Event, family=TAPS):
    """Something that the user does in the app."""


class Login(Tap):
    """The app is opened."""


class SubscriptionRenewed(Tap):
    """The subscription goes on."""


class Navigation(Tap):
    """A screen is opened."""

    screen: Name


class Search(Tap):
    """The catalogue is searched."""

    query: Annotated[str, Meta(min_length=1, max_length=200, extra=VISIBLE)]


class ContentEvent(Tap):
    """Something that happens to a play."""

    play_id: Name
    content_id: Name
    category: Category


class ContentStart(ContentEvent):
    """A play begins."""

    recommendation_id: Name | None = None


class PositionEvent(ContentEvent):
    """Something that happens at a position of a play."""

    position_seconds: Annotated[float, Meta(ge=0)]


class ContentPause(PositionEvent):
    """A play is paused."""


class ContentExit(PositionEvent):
    """A play is left."""


class ContentComplete(PositionEvent):
    """A play is heard to its end."""


class Biometric(Event, family=BIOMETRICS, any_of=("heart_rate_bpm", "steps")):
    """A watch's reading: the pulse, and the steps since the last one."""

    heart_rate_bpm: Annotated[float, Meta(ge=25.0, le=250.0)] | None = None
    steps: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class Impression(Event, family=SHOWN, lake_only=True):
    """Recommended contents are shown."""

    recommendation_id: Name
    kind: Literal["today", "sleep", "next"]
    items: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=200, title="content ids")]
    surface: Name
