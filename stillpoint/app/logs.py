"""A recorded log of another system, and which of its columns and words stand for which events and fields.

`stillpoint events publish --format NAME FILE` reads one: text in columns with or without a header, or a JSON object a
line, whose list `events`, if it has one, holds a row each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillpoint.app.events import Event
from stillpoint.app.place import Place, here


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickLog:
    """The words of a log. Of several column names the first that a file has counts.

    `by_place` names the columns of a file without a header. `kinds` are the words for each event type, in small letters;
    `fields` the columns of the events' own fields, `missing` what a required field is where the log has no value.
    """

    name: str
    user: tuple[str, ...]
    moment: tuple[str, ...]
    kind: tuple[str, ...]
    kinds: Mapping[str, type[Event]]
    fields: Mapping[str, tuple[str, ...]]
    by_place: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    platform: str = "web"
    place: Place = field(default_factory=here)

    def columns(self) -> frozenset[str]:
        """Return every column name that has a meaning here."""
        return frozenset(
            (*self.user, *self.moment, *self.kind, *(name for one in self.fields.values() for name in one))
        )
