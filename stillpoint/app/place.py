"""Every declaration remembers the file and line at which it stands, so that each fault can name its place."""

import sys
from typing import NamedTuple

_OWN = "stillpoint.app"


class Place(NamedTuple):
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def here() -> Place:
    """Return the line outside this package that is being executed: the line of a declaration."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith(_OWN):
        frame = frame.f_back
    return Place(frame.f_code.co_filename, frame.f_lineno)
