"""Gate checks by expectations, where `validation` and its dependencies are installed."""

from release.gate import Check


def expectation_checks() -> list[Check]:
    """Return the checks of the release's data, or none if the room `validation` is not installed."""
    try:
        from release.checks.validated_data import CHECKS
    except ModuleNotFoundError as error:
        if error.name == "validation":
            return []
        raise
    return list(CHECKS)
