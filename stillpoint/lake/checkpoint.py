"""The checkpoint of the commit log: one object that replaces all older commits."""

from bisect import bisect_right

from pydantic import BaseModel, ConfigDict, Field

from stillpoint.features.columns import feature_columns as feature_columns
from stillpoint.lake.commits import Commit

CHECKPOINTS = "folds/"


class CheckpointedCommit(Commit):
    """A writer's older commits combined: the files that still counted, and the sums of numeric properties."""

    commits: int


class LogCheckpoint(BaseModel):
    """`folds/<generation>.json`: stands for all commits and the earlier folds whose own objects are deleted after it was
    created. Only the one of the greatest generation counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int = Field(default=0, ge=0)
    commits: tuple[CheckpointedCommit, ...] = ()
    sequences: dict[str, tuple[tuple[int, int], ...]] = Field(
        default={}, description="Which sequences of each writer it stands for: first and last of each run of them."
    )

    @property
    def key(self) -> str:
        return f"{CHECKPOINTS}{self.generation:012d}.json"

    def holds(self, key: str) -> bool:
        """Return whether the checkpoint includes the commit with this key."""
        writer, _, name = key.removeprefix("commits/").rpartition("/")
        ranges = self.sequences.get(writer, ())
        if not ranges or not name.removesuffix(".json").isdigit():
            return False
        sequence = int(name.removesuffix(".json"))
        place = bisect_right(ranges, sequence, key=lambda one: one[0]) - 1
        return place >= 0 and sequence <= ranges[place][1]
