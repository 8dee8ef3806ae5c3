"""Gate check: the data that the release was made from meet their expectations."""

import importlib
from typing import Any

from release.gate import Check

MODULE = "validation.gate"


def expectation_checks(module: str = MODULE) -> list[Check]:
    """Return the checks that the validation room offers for the gate (`CHECKS`), or none if that room is not installed."""
    try:
        room: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            return []
        raise
    return list(room.CHECKS)
