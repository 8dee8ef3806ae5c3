"""The bodies of requests and answers as pydantic models; `openapi` describes them, and tests hold the service to them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inference.http.requests import DEFAULT_LIMIT, MAX_LIMIT, RECOMMENDATION_ID_PATTERN
from stillpoint.events.types import Category
from stillpoint.messages import Kind, UserId

_Source = Literal["model", "baseline", "stored", "fallback"]


class Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProblemDocument(Shape):
    """RFC 9457. `field` names what is at fault in the request, where one thing is."""

    type: Literal["about:blank"]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    field: str | None = Field(default=None, exclude_if=lambda value: value is None)


class ReleaseDescription(Shape):
    release: str
    generation: int
    colour: Literal["green", "blue"]
    project: str
    registry: str
    definitions_sha256: str
    read_plan_sha256: str
    mapping_version: int
    models: dict[Kind, str] = Field(description="SHA-256 of each kind's model.")


class RecommendedItem(Shape):
    content_id: str
    title: str
    category: Category
    score: float


class StoredVerbose(ReleaseDescription):
    at: datetime


class ViewStatus(Shape):
    view: str
    status: Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]


class PredictVerbose(StoredVerbose):
    refusal: str | None = Field(description="Why the answer is a fallback; null when it is not.")
    features: list[ViewStatus] = Field(description="The views read; empty when none could be read.")


class Section(Shape):
    """One recommendation, best first. `fallback` is popular content, marked as such."""

    recommendation_id: str
    source: _Source
    age_seconds: Annotated[float, Field(ge=0)]
    release: str
    items: Annotated[list[RecommendedItem], Field(max_length=MAX_LIMIT)]


class PredictionAnswer(Section):
    verbose: PredictVerbose | None = Field(default=None, description="With `verbose=1` only.")


class StoredRecommendations(Shape):
    user_id: UserId
    release: str
    recommendations: dict[Literal["today", "sleep"], Section]
    verbose: StoredVerbose | None = Field(default=None, description="With `verbose=1` only.")


class PredictionBody(Shape):
    user_id: UserId
    kind: Kind = Kind.TODAY
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT


class FeaturesBody(Shape):
    """Feast's own request. Either `features` or `feature_service` is needed."""

    entities: dict[str, list[str | int]] = Field(description="A list of values per join key, all of one length.")
    features: list[Annotated[str, Field(pattern="^[^:]+:[^:]+$")]] = Field(
        default=[], description="`view:feature` each."
    )
    feature_service: str | None = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class FeatureVector(Shape):
    values: list[Any]
    statuses: list[Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "INVALID"]]
    event_timestamps: list[datetime]


class FeatureViewName(Shape):
    name: str


class FeatureMetadata(Shape):
    feature_names: list[str]
    feature_view_metadata: list[FeatureViewName] | None = Field(default=None, description="On request only.")


class FeatureAnswer(Shape):
    """One vector per name of the metadata, one value per row of entities in each."""

    results: list[FeatureVector]
    metadata: FeatureMetadata


class EventResult(Shape):
    event_id: str | None
    status: Literal["accepted", "rejected"]
    field: str | None = Field(default=None, description="Of a rejected event: what is at fault, if one field is.")
    reason: str | None = Field(default=None, description="Of a rejected event.")


class EventResults(Shape):
    """One result per event, in the order given. What is rejected is kept in quarantine."""

    results: list[EventResult]


class ExplainedView(Shape):
    view: str
    status: Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]
    age_seconds: float | None
    values: dict[str, Any] = Field(description="By feature; a vector is given by its length.")


class ExplanationAnswer(Shape):
    recommendation_id: Annotated[str, Field(pattern=RECOMMENDATION_ID_PATTERN)]
    request_id: str
    release: str
    generation: int
    arm: Literal["a", "b"]
    user_id: UserId
    kind: Kind
    source: _Source
    trigger: str | None = Field(description="The type of the event that asked for it; null for a request over HTTP.")
    served_at: datetime
    items: list[str]
    views: list[ExplainedView]
    contributions: dict[str, dict[str, float]] = Field(
        description="Per content the features that moved its score most, in log-odds; empty for a fallback."
    )


class RemovedPart(Shape):
    place: str
    what: str
    count: Annotated[int, Field(ge=0)]


class RemainingPart(Shape):
    place: str
    why: str
    until: datetime | None


class ErasureReceipt(Shape):
    """What was found and removed, and where. Names the user by the tombstone's digest only."""

    format_version: Literal[1]
    person: str
    erased_until: datetime
    finished_at: datetime
    found: bool
    removed: list[RemovedPart]
    remaining: list[RemainingPart] = Field(
        description="Stores that cannot be edited, and until when they hold something."
    )
    revised_snapshots: list[str]
    models: list[str] = Field(description="Models trained on the user's data: retrain to replace them.")
    skipped: list[str]


class ErasureStatus(Shape):
    """The state of an erasure. A pending one is tried again until it is done, also after a restart."""

    status: Literal["pending", "done"]
    asked_at: datetime | None = Field(description="Of a pending erasure.")
    attempts: Annotated[int, Field(ge=0)] = Field(description="How often a pending erasure had to give up.")
    problem: str | None = Field(description="Why the last attempt gave up.")
    receipt: ErasureReceipt | None = Field(description="Of an erasure that is done.")


class Alive(Shape):
    status: Literal["alive"]


class Ready(Shape):
    status: Literal["ready"]
    release: str
