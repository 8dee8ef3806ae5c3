"""What the HTTP service answers, as typed records. `openapi.json` describes the same; a test compares them."""

from datetime import datetime
from typing import Any, Literal

import msgspec

Source = Literal["model", "baseline", "stored", "fallback"]
Status = Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]


class RecommendedContent(msgspec.Struct, frozen=True):
    """One recommended content. `score` orders the items of one answer and means nothing across answers."""

    content_id: str
    title: str
    category: str
    score: float


class Recommendation(msgspec.Struct, frozen=True):
    """One recommendation, best content first. `source` is `fallback` for popular contents, marked as such."""

    recommendation_id: str
    source: Source
    age_seconds: float
    release: str
    items: tuple[RecommendedContent, ...]


class UserRecommendations(msgspec.Struct, frozen=True):
    """What is stored for a user, by kind."""

    user_id: str
    release: str
    recommendations: dict[str, Recommendation]


class EventOutcome(msgspec.Struct, frozen=True):
    """What became of one event; `reason` and `field` say what is at fault in a rejected one."""

    event_id: str | None
    status: Literal["accepted", "rejected"]
    field: str | None = None
    reason: str | None = None


class EventOutcomes(msgspec.Struct, frozen=True):
    """One outcome per event, in the order in which they were sent."""

    results: tuple[EventOutcome, ...]


class FeatureValues(msgspec.Struct, frozen=True):
    """One feature: a value, status and event time per row of entities."""

    values: tuple[Any, ...]
    statuses: tuple[Status, ...]
    event_timestamps: tuple[datetime, ...]


class FeatureNames(msgspec.Struct, frozen=True):
    feature_names: tuple[str, ...]


class FeatureRows(msgspec.Struct, frozen=True):
    """Feast's own answer: `results` belong to the names of `metadata`, in order."""

    results: tuple[FeatureValues, ...]
    metadata: FeatureNames

    def to_dict(self) -> dict[str, tuple[Any, ...]]:
        """Return the values by feature, with None where a value is missing."""
        return {name: one.values for name, one in zip(self.metadata.feature_names, self.results, strict=True)}


class LiveRelease(msgspec.Struct, frozen=True):
    """The release that a process of the service answers with."""

    release: str
    generation: int
    colour: Literal["green", "blue"]
    project: str
    registry: str
    definitions_sha256: str
    read_plan_sha256: str
    mapping_version: int
    models: dict[str, str]


class WhyRecommended(msgspec.Struct, frozen=True):
    """What a recommendation was made from, and what moved each content's score most."""

    recommendation_id: str
    request_id: str
    release: str
    generation: int
    arm: str
    user_id: str
    kind: str
    source: Source
    trigger: str | None
    served_at: datetime
    items: tuple[str, ...]
    views: tuple[dict[str, Any], ...]
    contributions: dict[str, dict[str, float]]
