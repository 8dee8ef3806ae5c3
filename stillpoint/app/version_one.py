"""Under which names an app keeps what states of version 1 stored by place: three families, and three sections."""

from dataclasses import dataclass, field

from stillpoint.app.place import Place, here


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionOne:
    """What a running stream's states of version 1 hold.

    `families` are the names with the allowed lateness; `sections` the section's name, the place of its family, and for
    how long after that family's newest event its part may matter.
    """

    families: tuple[tuple[str, int | None], ...]
    sections: tuple[tuple[str, int, int], ...]
    place: Place = field(default_factory=here, compare=False)
