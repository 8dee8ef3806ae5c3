"""May a prediction use this user's row of the collaborative filter, or any feature of this project at all?

A colour that is being refilled, or a user row of another mapping, would make a model predict for a random other user.
Three versions must agree: the model's, the project's sentinel, and the user's own row.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from stillpoint.stores.columns import Sentinel


class Refusal(StrEnum):
    """Why nothing may be predicted; also the label of the metric."""

    SENTINEL_MISSING = "sentinel_missing"
    FILL_INCOMPLETE = "fill_incomplete"
    SENTINEL_MAPPING = "sentinel_mapping"
    USER_MAPPING = "user_mapping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What one read said about id mappings, and what the model expects. A user who is new to the mapping has neither id."""

    model_version: int
    sentinel: Sentinel | None
    user_version: int | None
    sequence_id: int | None


class Guard(Protocol):
    def refuse(self, mapping: Mapping) -> Refusal | None:
        """Return why nothing may be predicted from this read, or None if all agree."""
        ...


class MappingGuard:
    """The guard of every production path."""

    def refuse(self, mapping: Mapping) -> Refusal | None:
        sentinel = mapping.sentinel
        if sentinel is None or sentinel.mapping_version is None:
            return Refusal.SENTINEL_MISSING
        if sentinel.mapping_version != mapping.model_version:
            return Refusal.SENTINEL_MAPPING
        if not sentinel.fill_complete:
            return Refusal.FILL_INCOMPLETE
        if mapping.user_version is not None and mapping.user_version != mapping.model_version:
            return Refusal.USER_MAPPING
        if mapping.sequence_id is not None and mapping.user_version is None:
            return Refusal.USER_MAPPING
        return None


class NoGuard:
    """Lets everything pass. Only to show what the guard prevents: no setting and no entry point builds it."""

    def refuse(self, mapping: Mapping) -> Refusal | None:
        return None
