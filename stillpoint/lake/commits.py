"""Commits: the records that make files of the lake count. A commit names the files that it adds and those it replaces."""

from datetime import date

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stillpoint.features.columns import feature_columns as feature_columns


class CommittedFile(BaseModel):
    """One Parquet file of one dataset and one UTC date; `path` is its key in the lake."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    date: date
    path: str
    rows: int = Field(ge=0)


ISOLATED = "isolated"
"""The property of a commit that counts events of which one view is without: they lie in the quarantine too."""


class Commit(BaseModel):
    """The files that one piece of work added, and the files that it replaces (`supersedes`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: str
    sequence: int = Field(ge=0)
    epoch: int = 0
    at: AwareDatetime
    files: tuple[CommittedFile, ...] = ()
    supersedes: tuple[str, ...] = ()
    properties: dict[str, str | int | float | None] = {}

    @property
    def key(self) -> str:
        return commit_key(self.writer, self.sequence)


def commit_key(writer: str, sequence: int) -> str:
    """Return the key of a writer's commit."""
    return f"commits/{writer}/{sequence:012d}.json"
