"""The records of a release: its intent, its immutable record, its states, and the pointer that makes it live."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from stillpoint.messages import Kind
from stillpoint.releases.colour import Colour

ReleaseId = Annotated[str, StringConstraints(pattern=r"^r[0-9]{4,}$")]


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


Record = TypeVar("Record", bound=BaseModel)


class State(StrEnum):
    PREPARING = "preparing"
    PREPARED = "prepared"
    CHECKED = "checked"
    LIVE = "live"
    ROLLBACK_TARGET = "rollback_target"
    RETIRED = "retired"
    FAILED = "failed"


ALLOWED: dict[State | None, frozenset[State]] = {
    None: frozenset({State.PREPARING}),
    State.PREPARING: frozenset({State.PREPARED, State.FAILED}),
    State.PREPARED: frozenset({State.PREPARED, State.CHECKED, State.LIVE, State.RETIRED, State.FAILED}),
    State.CHECKED: frozenset({State.PREPARED, State.CHECKED, State.LIVE, State.RETIRED, State.FAILED}),
    State.LIVE: frozenset({State.ROLLBACK_TARGET, State.CHECKED, State.PREPARED}),
    State.ROLLBACK_TARGET: frozenset({State.LIVE, State.RETIRED}),
    State.RETIRED: frozenset(),
    State.FAILED: frozenset(),
}
"""Which state may follow which. A red check leaves a release prepared, or makes a checked one prepared again; only a
forced switch takes a prepared one live; a rollback gives the former live release back the state that it came from."""


GONE = frozenset({State.RETIRED, State.FAILED})
"""A release in one of these holds no colour and never comes back."""


class Move(StrEnum):
    """Why a generation was created."""

    SWITCH = "switch"
    ROLLBACK = "rollback"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Route(_Record):
    """Which model answers a kind: an artifact by key and digest, in process or behind an endpoint."""

    model_uri: str = Field(description="Key of the bundle in the lake, `models/<sha256>.tar.gz`.")
    sha256: Sha256
    endpoint: str | None = Field(default=None, description="SageMaker endpoint; None ranks in process.")


class Intent(_Record):
    """What a release is going to be, `releases/<id>/intent.json`: claims the id before anything is touched."""

    id: ReleaseId
    colour: Colour
    mapping_version: int = Field(ge=1)
    routes: dict[Kind, Route]
    feature_service: str
    shares: ReleaseId | None = Field(default=None, description="A model-only release: whose features it uses.")
    at: AwareDatetime
    by: str
    why: str

    def wants_the_same(self, other: "Intent") -> bool:
        """Return whether both intend the same release, so that the later one may finish the earlier one's work."""
        return self._content() == other._content()

    def _content(self) -> object:
        return self.model_dump(exclude={"id", "at", "by", "why"})


class Release(_Record):
    """The immutable record `releases/<id>/release.json`. Keys of files are relative to the lake."""

    registry: str = Field(description="Key of the frozen registry, `releases/<id>/registry.pb`.")
    id: ReleaseId
    colour: Colour
    project: str
    connection: str = Field(
        description="The Redis connection string without credentials; the settings hold the real one."
    )
    registry_sha256: Sha256
    definitions_sha256: Sha256
    read_plan: str = Field(description="Key of the read plan, `releases/<id>/read_plan.json`.")
    read_plan_sha256: Sha256
    feature_service: str
    encoder_sha256: Sha256
    mapping_version: int = Field(ge=1)
    routes: dict[Kind, Route]
    snapshot_id: str
    metrics: dict[str, float]
    shares: ReleaseId | None = Field(
        default=None, description="Of a model-only release: the release whose colour, registry and plan it uses."
    )
    created_at: AwareDatetime


class Transition(_Record):
    """One step in a release's life, `releases/<id>/states/<number>.json`."""

    number: int = Field(ge=1)
    state: State
    at: AwareDatetime
    by: str
    why: str
    report: str | None = Field(default=None, description="Key of the gate's report, when there is one.")


@dataclass(frozen=True, slots=True)
class History:
    """A release's intent and its transitions, oldest first."""

    intent: Intent
    steps: tuple[Transition, ...]

    @property
    def state(self) -> State | None:
        """The state that was entered last, None before the first."""
        return self.steps[-1].state if self.steps else None


class Pointer(_Record):
    """One generation of the pointer; the highest is live."""

    generation: int = Field(ge=1)
    release: ReleaseId
    previous: ReleaseId | None
    move: Move = Move.SWITCH
    nonce: str
    at: AwareDatetime
    by: str
    why: str


class Announcement(_Record):
    """`releases/next.json`: what workers load before the generation appears."""

    generation: int
    release: ReleaseId
    at: AwareDatetime
