"""A fault of an app: one sentence, and the line at which it stands."""

from typing import NamedTuple

from stillpoint.app.place import Place


class Fault(NamedTuple):
    """What is wrong, and where."""

    place: Place
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"
