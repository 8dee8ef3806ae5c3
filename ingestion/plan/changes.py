"""Compares an app's views and events with those that the stream says it runs. (pure)"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from stillpoint.app.load import App
from stillpoint.features.streamed.engine import section_name
from stillpoint.releases.streamed_views import EventFields, StreamedViews, event_fields


@dataclass(frozen=True, slots=True)
class FieldChanges:
    """One event type's fields against those that the stream reads."""

    event: str
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppChanges:
    """`changed_views` are by name the name under which the changed definition would be accepted."""

    new_views: tuple[str, ...] = ()
    changed_views: dict[str, str] = field(default_factory=dict)
    removed_views: tuple[str, ...] = ()
    new_events: tuple[str, ...] = ()
    removed_events: tuple[str, ...] = ()
    fields: tuple[FieldChanges, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether the stream runs the app as it is."""
        return self == AppChanges()


def changes(app: App, running: StreamedViews | None) -> AppChanges:
    """Return what the app changes; against nothing, if no stream has said what it runs."""
    known = {} if running is None else running.views
    sections = {view.name: section_name(view) for view in app.views}
    own = event_fields(app.events)
    read = {} if running is None else running.events
    return AppChanges(
        new_views=tuple(name for name in sections if name not in known),
        changed_views=changed_views(sections, known),
        removed_views=tuple(name for name in known if name not in sections),
        new_events=tuple(name for name in own if name not in read),
        removed_events=tuple(name for name in read if name not in own),
        fields=tuple(found for name in own if name in read and (found := _fields(name, own, read)) is not None),
    )


def changed_views(sections: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return views that are known by the same name and another definition, each with a name that is free."""
    taken = sections.keys() | known.keys()
    return {
        name: next_name(name, taken) for name, section in sections.items() if name in known and known[name] != section
    }


def next_name(name: str, taken: Collection[str]) -> str:
    """Return the name of a view's next version.

    >>> next_name("listening", {"listening"}), next_name("listening_v2", {"listening_v2", "listening_v3"})
    ('listening_v2', 'listening_v4')
    """
    found = re.fullmatch(r"(.+)_v(\d+)", name)
    stem, number = (found[1], int(found[2]) + 1) if found else (name, 2)
    while f"{stem}_v{number}" in taken:
        number += 1
    return f"{stem}_v{number}"


def _fields(event: str, own: EventFields, read: EventFields) -> FieldChanges | None:
    ours, theirs = own[event], read[event]
    found = FieldChanges(
        event=event,
        new=tuple(name for name in ours if name not in theirs),
        changed=tuple(name for name in ours if name in theirs and ours[name] != theirs[name]),
        removed=tuple(name for name in theirs if name not in ours),
    )
    return None if found == FieldChanges(event) else found
