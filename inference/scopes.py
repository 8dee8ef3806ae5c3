"""The scopes of bearer tokens: what a caller may do."""

from enum import StrEnum


class Scope(StrEnum):
    READ = "read"
    PREDICT = "predict"
    WRITE_EVENTS = "write-events"
    ADMIN = "admin"
    """Includes every other scope."""
