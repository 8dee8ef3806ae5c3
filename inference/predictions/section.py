"""A recommendation as the section of the service's JSON that shows it."""

from collections.abc import Sequence
from typing import Any

from stillpoint.messages import Item


def section(
    recommendation_id: str, source: str, release: str, items: Sequence[Item], *, age_seconds: float = 0.0
) -> dict[str, Any]:
    """Return the section; `age_seconds` is how long ago the recommendation was made. Its schema is `http.schemas.Section`."""
    return {
        "recommendation_id": recommendation_id,
        "source": str(source),
        "age_seconds": age_seconds,
        "release": release,
        "items": [item.model_dump() for item in items],
    }
