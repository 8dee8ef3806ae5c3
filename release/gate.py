"""The release gate's vocabulary: thresholds, the subject of a check, its result, and the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import SettingsConfigDict

from stillpoint.app.feature_set import FeatureSet
from stillpoint.app.load import App
from stillpoint.durations import Seconds
from stillpoint.errors import CorruptData, ReleaseRefused
from stillpoint.lake.objects import Objects
from stillpoint.lake.tables import Lake
from stillpoint.limits import LimitSettings
from stillpoint.model import ModelBundle
from stillpoint.releases.records import Release
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.client import RedisClient


class Thresholds(LimitSettings):
    """What the gate expects; `STILLPOINT_GATE_…` variables change it."""

    model_config = SettingsConfigDict(env_prefix="STILLPOINT_GATE_")

    coverage: float = Field(
        default=0.99, ge=0, le=1, description="Share of the lake's sampled entities that a view must hold online."
    )
    daily_age_hours: float = Field(default=48, gt=0, description="Age of the newest row of a daily view.")
    sample: int = Field(default=500, ge=1, description="Entities per view that parity and digest look at.")
    parity_mismatches: int = Field(default=0, ge=0, description="Online rows that may differ from the lake.")
    digest_differences: int = Field(default=0, ge=0, description="Pairs that may differ after re-reading.")
    digest_reads: int = Field(default=6, ge=1, description="How often differing pairs are read again.")
    digest_pause_seconds: Seconds = Field(default=0.5, ge=0, description="Pause before each re-reading.")
    replay_requests: int = Field(
        default=50, ge=0, description="Recent requests to replay; none recorded is no failure."
    )
    replay_overlap: float = Field(
        default=0.0, ge=0, le=1, description="Mean share of the ten first contents that stay; 0 only reports it."
    )
    better_than_live: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="Least rise in NDCG@3 over the live model, at the lower end of its paired interval; unset only reports it.",
    )
    fairness_gap: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest gap in NDCG@3 between groups of users (gender, locale, tenure) that is not beyond chance above it; unset only reports it.",
    )
    lake_days: int = Field(default=2, ge=1, description="Newest days of each view in the lake that are validated.")
    lake_rows: int = Field(
        default=100_000, ge=1, description="Rows of each view in the lake that are validated at most."
    )
    served_sample: int = Field(default=500, ge=1, description="Newest predictions of the live release to recompute.")
    served_least: int = Field(
        default=0, ge=0, description="Predictions that must be there to compare; 0 passes a release that served none."
    )
    served_unexplained: int = Field(default=0, ge=0, description="Served values that may differ from the events.")
    served_lag_seconds: Seconds = Field(
        default=30.0, gt=0, description="Until when an event that arrived must be served."
    )
    served_stale_share: float = Field(default=0.05, ge=0, le=1, description="Share of served rows behind that limit.")
    latency_p99_ms: float = Field(default=10.0, gt=0, description="99th percentile of one user's features.")
    latency_reads: int = Field(default=200, ge=20, description="Reads that are timed.")


class CheckResult(BaseModel):
    """One check: `found` against `expected`, in words; `numbers` and `series` are drawn in the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    found: str
    expected: str
    numbers: dict[str, float | None] = {}
    series: dict[str, list[float]] = {}
    examples: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the result as a clause: name, found, expected."""
        return f"{self.name}: found {self.found}; expected {self.expected}"


class Report(BaseModel):
    """The results of all checks on a release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str
    against: str | None
    at: AwareDatetime
    by: str
    results: tuple[CheckResult, ...]
    html: str | None = None

    @property
    def passed(self) -> bool:
        return bool(self.results) and all(result.passed for result in self.results)

    def failures(self) -> tuple[CheckResult, ...]:
        return tuple(result for result in self.results if not result.passed)


@dataclass(frozen=True)
class Side:
    """A release with its read plan, Redis client and models."""

    release: Release
    plan: ReadPlan
    client: RedisClient
    models: Mapping[str, ModelBundle]
    features: FeatureSet

    @property
    def reader(self) -> OnlineReader:
        return OnlineReader(self.client, self.plan)


@dataclass(frozen=True)
class Subject:
    """What a check looks at: the candidate, the live release if there is one, the lake, and the present."""

    candidate: Side
    live: Side | None
    lake: Lake
    thresholds: Thresholds
    now: datetime
    now_us: int
    seed: int
    app: App


class Check(Protocol):
    """One check of the gate: reads from the subject, changes nothing."""

    @property
    def name(self) -> str: ...

    def run(self, subject: Subject) -> CheckResult: ...


def report_key(release_id: str, at: datetime) -> str:
    """Return the key of a gate report.

    >>> from datetime import UTC
    >>> report_key("r0002", datetime(2026, 11, 21, 12, 0, 1, tzinfo=UTC))
    'reports/releases/r0002/20261121T120001000000.json'
    """
    return f"reports/releases/{release_id}/{at:%Y%m%dT%H%M%S%f}.json"


def write_report(objects: Objects, key: str, report: Report) -> None:
    """Write a report as JSON under its key."""
    objects.put(key, (json.dumps(report.model_dump(mode="json"), indent=1) + "\n").encode())


def read_report(objects: Objects, key: str) -> Report:
    """Return a report.

    Raises:
        CorruptData: it cannot be read.
    """
    try:
        return Report.model_validate_json(objects.get(key))
    except ValidationError as error:
        raise CorruptData(f"{key} is not a report of the gate: {error}") from None


def refuse_repeated_names(checks: Sequence[Check]) -> None:
    """Make sure that every check has a name of its own.

    Raises:
        ReleaseRefused: two share one.
    """
    names = [check.name for check in checks]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ReleaseRefused(f"two checks of the gate are called {', '.join(repeated)}; rename one")
