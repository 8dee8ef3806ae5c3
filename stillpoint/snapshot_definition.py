"""The definition of a training snapshot beside its dates: the source of its features, and what counts as a success."""

from datetime import timedelta
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

BOUNCE_POSITION_SECONDS = 60


class LabelDefinition(BaseModel):
    """A shown item is a success if it is started within `window` and not left before `bounce_position_seconds`.

    The latest impression before a start gets it. Impressions in the last `settle` before the cutoff are left out: their
    outcome may still be on its way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    window: timedelta = timedelta(minutes=30)
    bounce_position_seconds: float = Field(default=BOUNCE_POSITION_SECONDS, gt=0)
    bounce_window: timedelta = timedelta(minutes=30)
    settle: timedelta = timedelta(minutes=60)


class FeaturesFrom(StrEnum):
    """A point-in-time join at the moment of showing, or the served log: what the model saw when it made the list."""

    JOIN = "join"
    SERVED_LOG = "served-log"
