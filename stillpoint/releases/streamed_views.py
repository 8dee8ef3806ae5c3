"""The views that the stream advances, as it says itself: a view counts as joined once it stands here."""

from collections.abc import Iterable
from typing import TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.app.events import Event
from stillpoint.app.fields import FieldInfo, fields_of
from stillpoint.errors import CorruptData, ObjectMissing
from stillpoint.lake.objects import Objects

STREAMED_VIEWS_KEY = "stream/views.json"


EventFields: TypeAlias = dict[str, dict[str, str]]


def event_fields(events: Iterable[type[Event]]) -> EventFields:
    """Return by event type its own fields, each with its kind, a question mark where it may be absent, and its bounds."""
    return {event.type_name: {name: _told(one) for name, one in fields_of(event).items()} for event in events}


def _told(one: FieldInfo) -> str:
    bounds = [] if one.minimum is None and one.maximum is None else [f"{one.minimum} to {one.maximum}"]
    values = [" | ".join(one.values)] if one.values is not None else []
    pattern = [one.pattern] if one.pattern is not None else []
    return " ".join([f"{one.kind}{'?' if one.optional else ''}", *bounds, *values, *pattern])


class StreamedViews(BaseModel):
    """The views that the stream advances with every batch, since it joined them or began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: str = Field(description="The writer name of the stream's commits.")
    views: dict[str, str] = Field(
        description="By name the section, which carries the digest of what the view computes."
    )
    events: EventFields = Field(default={}, description="By event type its fields, each with what it holds.")
    batch: int | None = Field(description="The newest batch when this was said; rows of all later ones are there.")
    at: AwareDatetime


def read_streamed_views(objects: Objects) -> StreamedViews | None:
    """Return what the stream last said, or None if it never has."""
    try:
        return StreamedViews.model_validate_json(objects.get(STREAMED_VIEWS_KEY))
    except ObjectMissing:
        return None
    except ValueError as error:
        raise CorruptData(f"{STREAMED_VIEWS_KEY} cannot be read: {error}") from None
