"""What an app declares: its events, entities, streamed and daily views, recommendations. Imports nothing heavy."""

from typing import Annotated

from msgspec import Meta

from stillpoint.app.aggregations import (
    count,
    count_distinct,
    embedding,
    exists,
    first,
    last,
    last_n,
    maximum,
    mean,
    minimum,
    most_frequent,
    newer_minus_older,
    own,
    share,
    slope,
    standard_deviation,
    sum_,
    time_since_first,
    time_since_last,
)
from stillpoint.app.conditions import one_of, present
from stillpoint.app.durations import days, hours, minutes, seconds
from stillpoint.app.entities import Entity, user
from stillpoint.app.events import TAPS, Arrival, Event, Family
from stillpoint.app.texts import PRINTABLE, VISIBLE, Name
from stillpoint.app.views import CustomView, StreamView
from stillpoint.app.windows import exact, session, sliding
from stillpoint.dtypes import DType

__all__ = [
    "PRINTABLE",
    "TAPS",
    "VISIBLE",
    "Annotated",
    "Arrival",
    "CustomView",
    "DType",
    "Entity",
    "Event",
    "Family",
    "Meta",
    "Name",
    "StreamView",
    "count",
    "count_distinct",
    "days",
    "embedding",
    "exact",
    "exists",
    "first",
    "hours",
    "last",
    "last_n",
    "maximum",
    "mean",
    "minimum",
    "minutes",
    "most_frequent",
    "newer_minus_older",
    "one_of",
    "own",
    "present",
    "seconds",
    "session",
    "share",
    "sliding",
    "slope",
    "standard_deviation",
    "sum_",
    "time_since_first",
    "time_since_last",
    "user",
]
