"""Names the view, feature and entity whose bytes cannot be read."""

from stillpoint.errors import CorruptData
from stillpoint.stores.redis.layout import describe_key

_ADVICE = "delete the entity's key or write the feature again; nothing was guessed"


def corrupt_time(view: str, key: bytes) -> CorruptData:
    """Return the error for a stored event time that cannot be decoded."""
    return CorruptData(f"view {view}, entity {describe_key(key)}: the stored event time is not a timestamp; {_ADVICE}")


def corrupt_value(view: str, feature: str, key: bytes, why: str) -> CorruptData:
    """Return the error for a stored feature value that cannot be decoded."""
    return CorruptData(f"feature {view}:{feature}, entity {describe_key(key)}: {why}; {_ADVICE}")
