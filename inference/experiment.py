"""In which arm of the experiment is a user?"""

import hashlib
from collections.abc import Mapping

from stillpoint.errors import InvalidSettings


def parse_arms(text: str) -> dict[str, float]:
    """Read `control=0.5,diverse=0.5`: names with their weights.

    Raises:
        InvalidSettings: a weight is missing, not a number, or not above 0.
    """
    arms: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        try:
            arms[name] = float(weight)
        except ValueError:
            arms[name] = 0.0
        if not name or not 0 < arms[name] < float("inf"):
            raise InvalidSettings(
                f"STILLPOINT_EXPERIMENT_ARMS: {part.strip()!r} is no arm; expected name=weight with a weight above 0"
            )
    return arms


def arm_of(user_id: str, arms: Mapping[str, float], *, seed: int) -> str:
    """Return the user's arm: a hash of seed and user, so that every process and restart agrees."""
    digest = hashlib.sha256(f"{seed}\x00{user_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64 * sum(arms.values())
    for name, weight in arms.items():
        point -= weight
        if point < 0:
            return name
    return name
