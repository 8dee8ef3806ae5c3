"""The sources of a snapshot's user features. (a module of its own, so that the command line starts quickly)"""

from enum import StrEnum


class FeaturesFrom(StrEnum):
    """A point-in-time join at the moment of showing, or the served log: what the model saw when it made the list."""

    JOIN = "join"
    SERVED_LOG = "served-log"
