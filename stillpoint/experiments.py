"""Experiment arms: a user's arm follows from a seeded hash, the same in every process, with no memory. (pure)"""

import hashlib
import itertools
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

_SHARES_ADD_UP_WITHIN = 1e-6


class Ordering(StrEnum):
    """How the lists of an arm's users are ordered."""

    MODEL = "model"
    POPULAR = "popular"


class Arm(BaseModel):
    """One arm: its name in the served log, its share of the users, and how their lists are ordered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
    share: float = Field(gt=0, le=1)
    ordering: Ordering = Ordering.MODEL


class Experiment(BaseModel):
    """The arms and the salt of the hash. The default is an A/A test: two equal halves that differ only by chance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field(default="7", min_length=1, max_length=64)
    arms: tuple[Arm, ...] = Field(default=(Arm(name="a", share=0.5), Arm(name="b", share=0.5)), min_length=1)

    @model_validator(mode="after")
    def _arms_divide_everybody(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms are named {', '.join(names)}; each name may occur once")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > _SHARES_ADD_UP_WITHIN:
            raise ValueError(f"the arms' shares add up to {total:g}; expected 1")
        return self

    def __str__(self) -> str:
        """Return the text that declares it in the settings."""
        return self.model_dump_json()

    def arm_of(self, user_id: str) -> Arm:
        """Return the user's arm. Another salt reassigns all users; if the first arm's share grows, it keeps its users.

        >>> Experiment().arm_of("u1").name == Experiment().arm_of("u1").name
        True
        """
        digest = hashlib.sha256(f"{self.salt}\x00{user_id}".encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        ends = itertools.accumulate(arm.share for arm in self.arms)
        return next((arm for arm, end in zip(self.arms, ends, strict=True) if place < end), self.arms[-1])
