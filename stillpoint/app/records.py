"""What becomes of a view: the record from which Feast's definitions, columns, expectations and read plans derive."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from stillpoint.app.entities import Entity
from stillpoint.dtypes import DType


class Origin(StrEnum):
    """Where the rows of a view come from."""

    STREAMED = "streamed"
    DAILY = "daily"
    MAPPING = "mapping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature; `null_when` says when it has no value, and None means never."""

    name: str
    dtype: DType
    unit: str
    description: str
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] | None = None
    null_when: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Features of one entity that are computed and stored together; `ttl` None means no limit."""

    name: str
    entity: Entity
    origin: Origin
    ttl: timedelta | None
    features: tuple[Feature, ...]
    description: str
    event_types: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @property
    def max_age_seconds(self) -> float | None:
        return None if self.ttl is None else self.ttl.total_seconds()
