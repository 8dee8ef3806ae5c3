"""What the app recommends, when, and what counts as success."""

from stillpoint.app import minutes
from stillpoint.app.recommendations import Label

from .events import ContentExit, ContentStart, Impression

started = Label(
    shown=Impression,
    items="items",
    positive=ContentStart,
    item="content_id",
    within=minutes(30),
    undone_by=ContentExit.position_seconds < 60,
    undone_event=ContentExit,
    undone_within=minutes(30),
)
