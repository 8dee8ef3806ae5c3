"""One user: features with status and age, recent events, stored recommendations, erasure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow.compute as pc

from console.sources import Sources
from inference.live.loaded_release import LoadedRelease
from inference.predictions.stored_recommendations import Recommendations
from stillpoint.clock import to_micros
from stillpoint.errors import InvalidInput
from stillpoint.events.types import RECORD_COLUMNS
from stillpoint.lake.datasets import DateRange
from stillpoint.messages import USER_ID_FORM, Kind, StoredRecommendation, is_user_id
from stillpoint.stores.reading.types import FieldStatus

EVENT_DAYS = 7
EVENTS = 20
_NOT_SHOWN = {*RECORD_COLUMNS.names, "play_id", "recommendation_id"}


@dataclass(frozen=True, slots=True)
class UserFeature:
    """One online feature: its value, whether it may be served, and how old its row is."""

    view: str
    name: str
    value: object
    status: str
    age_seconds: float | None


@dataclass(frozen=True, slots=True)
class UserEvent:
    """One event as the lake holds it; `details` are the fields that its type carries."""

    at: datetime
    type: str
    verdict: str
    details: str


@dataclass(frozen=True, slots=True)
class User:
    """What is known of a user in the live release."""

    user_id: str
    release: str
    colour: str
    features: tuple[UserFeature, ...]
    stored: tuple[StoredRecommendation, ...]

    @property
    def known(self) -> bool:
        return bool(self.stored) or any(one.status != FieldStatus.NOT_FOUND.name for one in self.features)


def checked_user(user_id: str) -> str:
    """Return a user id that an event may carry.

    Raises:
        InvalidInput: it is none.
    """
    if not is_user_id(user_id):
        raise InvalidInput(f"{user_id[:80]!r} is not a user id; expected {USER_ID_FORM}, as events carry it")
    return user_id


def user(sources: Sources, loaded: LoadedRelease, user_id: str) -> User:
    """Read a user's features from the live colour, and what is stored for them."""
    now = sources.clock()
    columns = loaded.reader.read(loaded.users.names, {"user_id": [user_id]}, now_us=to_micros(now))
    cells = columns.to_dicts(full_names=True)[0]
    features = tuple(
        UserFeature(
            view=name.partition("__")[0],
            name=name.partition("__")[2],
            value=_plain(cell.value),
            status=cell.status.name,
            age_seconds=None if cell.age_seconds is None else round(cell.age_seconds, 1),
        )
        for name, cell in cells.items()
    )
    found = Recommendations(sources.serving).get(user_id, tuple(Kind), loaded.id)
    return User(
        user_id, loaded.id, str(loaded.release.colour), features, tuple(one for one in found if one is not None)
    )


def events(sources: Sources, user_id: str) -> tuple[UserEvent, ...]:
    """Read a user's newest events of the last days, the newest first."""
    days = DateRange(first=(sources.clock() - timedelta(days=EVENT_DAYS)).date())
    table = sources.lake.newest("events", EVENTS, days, where=pc.field("user_id") == user_id)
    rows = table.sort_by([("event_timestamp", "descending")]).slice(0, EVENTS).to_pylist()
    return tuple(UserEvent(row["event_timestamp"], row["type"], row["verdict"], _details(row)) for row in rows)


def some_user_ids(sources: Sources, count: int = 12) -> tuple[str, ...]:
    """Return users of the lake to begin with: subscribed ones, in the order of their ids."""
    table = sources.lake.read("users", columns=["user_id", "subscribed"])
    chosen = table.filter(table["subscribed"])["user_id"].to_pylist()
    return tuple(sorted(set(chosen)))[:count]


def _details(row: Mapping[str, Any]) -> str:
    told = {name: value for name, value in row.items() if name not in _NOT_SHOWN and value is not None}
    return ", ".join(f"{name.replace('_', ' ')} {_told(value)}" for name, value in told.items())


def _told(value: object) -> str:
    match value:
        case float():
            return f"{value:g}"
        case list():
            return f"of {len(value)}"
    return str(value)


def _plain(value: Any) -> object:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value
