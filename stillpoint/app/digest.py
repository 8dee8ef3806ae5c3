"""The canonical digest of a declaration: equal definitions give equal digests, whatever their text, place or order."""

import hashlib
import json


def digest(value: object) -> str:
    """Return the sha256 of a value of plain data as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
