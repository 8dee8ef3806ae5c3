"""What all parts of one micro-batch share: its number and targets, a worker's clients, and the report of a part."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache

from ingestion.compute import Rules
from ingestion.state_store import StateStore
from ingestion.view_states import ViewStates
from stillpoint.app.load import load_app
from stillpoint.clock import SECOND
from stillpoint.encoder import RememberingEncoder, WordLlamaEncoder
from stillpoint.features.streamed.stream import AppStream
from stillpoint.features.triggers import SearchedCategory
from stillpoint.lake.app_lake import open_lake
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.tables import Lake
from stillpoint.releases.write_targets import Control
from stillpoint.settings import Settings
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.tombstones import Tombstones, erasure_key


@dataclass(frozen=True, slots=True)
class Batch:
    """What all parts of one micro-batch share. `is_replay`: the lake holds this micro-batch already, so only its prediction requests are sent.

    `instance` names the run of Redis's shards that hold all states up to this batch. `erased` holds the tombstones at the start of it,
    `views` says which views are computed.
    """

    settings: Settings
    query: str
    number: int
    epoch: int
    control: Control
    is_replay: bool
    instance: str
    views: ViewStates
    erased: Mapping[str, int] = field(default_factory=dict)

    def part_name(self) -> str:
        """Return a name for one part's files that no other part, or try of it, has."""
        return f"stream-{self.query}-{self.number:012d}-{self.epoch}-{uuid.uuid4().hex[:8]}"


@dataclass(slots=True)
class PartReport:
    """What one part did. `seconds` by stage; `freshness` counts records by hundredths of a second from arrival until their features
    were readable. `rows` and `newest_event_us` are by `colour/view`."""

    files: list[CommittedFile] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    freshness: dict[str, int] = field(default_factory=dict)
    newest_event_us: dict[str, int] = field(default_factory=dict)
    newest_arrival_us: int = 0
    dropped_fields: int = 0
    differing: int = 0
    isolated: int = 0

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "files": [file.model_dump(mode="json") for file in self.files]})

    @classmethod
    def from_json(cls, text: str) -> "PartReport":
        value = json.loads(text)
        return cls(**{**value, "files": [CommittedFile.model_validate(file) for file in value["files"]]})


@dataclass(frozen=True, slots=True)
class Clients:
    """What a Python worker keeps open between micro-batches."""

    rules: Rules
    lake: Lake
    states: StateStore
    writers: dict[str, OnlineWriter]
    serving: RedisClient


@lru_cache(maxsize=4)
def open_clients(settings: Settings, query: str, control: Control, active: frozenset[str] | None = None) -> Clients:
    """Build a worker's clients, once for each generation of write targets. An executor is an entry point, so clients are built here."""
    rules = rules_of(settings, active)
    writers = {
        target.project: OnlineWriter(connect(settings.connection(target.colour)), target.project)
        for target in control.targets
    }
    state_client = connect(settings.redis_state.get_secret_value())
    lake = open_lake(settings)
    serving = connect(settings.redis_serving.get_secret_value())
    return Clients(rules, lake, StateStore(state_client, query), writers, serving)


@lru_cache(maxsize=2)
def rules_of(settings: Settings, active: frozenset[str] | None = None) -> Rules:
    """Load the app that the settings name, and return by what the stream computes: all views, or the `active` sections."""
    app = load_app(settings.app)
    encoder = _encoder()
    age_us = settings.max_event_age * SECOND
    return Rules(
        stream=AppStream(app, encoder=encoder, max_event_age_us=age_us, sections=active),
        encoder=encoder,
        searched=SearchedCategory(encoder),
        tombstones=Tombstones(erasure_key(settings)),
    )


@lru_cache(maxsize=1)
def _encoder() -> RememberingEncoder:
    return RememberingEncoder(WordLlamaEncoder())
