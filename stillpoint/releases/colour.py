"""The two colours of the feature store, and the Feast project of each."""

from enum import StrEnum


class Colour(StrEnum):
    """One of the two copies of the feature store."""

    GREEN = "green"
    BLUE = "blue"

    @property
    def other(self) -> "Colour":
        return Colour.BLUE if self is Colour.GREEN else Colour.GREEN


SANDBOX = "sandbox"


def project_name(colour: "Colour | str") -> str:
    """Return the Feast project of a colour or of the sandbox. No project's name is the end of another's.

    >>> project_name(Colour.GREEN), project_name(SANDBOX)
    ('stillpoint_green', 'stillpoint_sandbox')
    """
    return f"stillpoint_{colour}"
