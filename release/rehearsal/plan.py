"""The plan of a rehearsal, which follows from a seed alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What goes wrong around a switch."""

    NONE = "none"
    KILL_WORKER = "kill worker"
    CUT_CONNECTIONS = "cut connections"
    SLOW_BOOK = "slow book"
    LOST_NEWS = "lost news"


@dataclass(frozen=True, slots=True)
class Flip:
    """One pointer move: after how long, and with which fault at the same time."""

    number: int
    pause_seconds: float
    fault: Fault


def plan_flips(
    *, seed: int, flips: int, faults: Sequence[Fault] = tuple(Fault), pause: tuple[float, float] = (0.5, 1.5)
) -> list[Flip]:
    """Return the moves of a rehearsal. Each fault comes up once before any comes up twice."""
    chance = random.Random(seed)
    deck: list[Fault] = []
    planned = []
    for number in range(1, flips + 1):
        if not deck:
            deck = sorted(faults)
            chance.shuffle(deck)
        planned.append(Flip(number, round(chance.uniform(*pause), 3), deck.pop() if deck else Fault.NONE))
    return planned
