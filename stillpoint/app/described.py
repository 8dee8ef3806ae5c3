"""What an app says of each of its features: the catalogue of features. (pure)"""

from collections.abc import Iterator
from dataclasses import dataclass

from stillpoint.app.load import App
from stillpoint.app.records import Feature, View
from stillpoint.app.views import CustomView, StreamView
from stillpoint.errors import NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEntry:
    """One feature as the catalogue shows it. `window` is None where a definition of its own or a daily one decides."""

    view: str
    name: str
    entity: tuple[str, ...]
    origin: str
    meaning: str
    dtype: str
    unit: str
    null_when: str | None
    values: str | None
    window: str | None
    events: tuple[str, ...]
    lives: str | None
    owner: str | None

    @property
    def reference(self) -> str:
        """The feature as Feast names it."""
        return f"{self.view}:{self.name}"


def entries(app: App) -> list[FeatureEntry]:
    """Return every feature of an app, view by view."""
    streamed = {view.name: view for view in app.views}
    return [one for record in app.records for one in _of_view(record, streamed.get(record.name))]


def entry(app: App, name: str) -> FeatureEntry:
    """Return the feature of a name, or of `view:name`.

    Raises:
        NotFound: there is none, or several views have one of this name.
    """
    found = [one for one in entries(app) if name in (one.reference, one.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{name} is a feature of several views; name it {' or '.join(one.reference for one in found)}")
    raise NotFound(f"app {app.name} has no feature {name}; `stillpoint features list` names all")


def _of_view(record: View, view: type[StreamView] | None) -> Iterator[FeatureEntry]:
    windows = (
        {} if view is None or issubclass(view, CustomView) else {one.name: str(one.window) for one in view.features()}
    )
    for feature in record:
        yield FeatureEntry(
            view=record.name,
            name=feature.name,
            entity=record.entity.keys,
            origin=str(record.origin),
            meaning=" ".join(feature.description.split()),
            dtype=str(feature.dtype),
            unit=feature.unit,
            null_when=feature.null_when,
            values=_values(feature),
            window=windows.get(feature.name),
            events=tuple(sorted(record.event_types)),
            lives=None if record.ttl is None else str(record.ttl),
            owner=feature.owner or (None if view is None else view.owner),
        )


def _values(feature: Feature) -> str | None:
    if feature.values is not None:
        return ", ".join(feature.values)
    low, high = feature.minimum, feature.maximum
    if low is None and high is None:
        return None
    if high is None:
        return f"at least {low:g}"
    return f"at most {high:g}" if low is None else f"{low:g} to {high:g}"


def page(app: App) -> str:
    """Return the catalogue as Markdown."""
    parts = [f"App `{app.name}`: {len(entries(app))} features.\n"]
    by_view: dict[str, list[FeatureEntry]] = {}
    for one in entries(app):
        by_view.setdefault(one.view, []).append(one)
    for record in app.records:
        lives = "without end" if record.ttl is None else f"for {record.ttl}"
        told = [
            f"{record.description.rstrip('.')}. Of `{', '.join(record.entity.keys)}`, {record.origin}, valid {lives}."
        ]
        told += (
            [f"Changed by {', '.join(f'`{name}`' for name in sorted(record.event_types))}."]
            if record.event_types
            else []
        )
        parts.append(
            f"\n## `{record.name}`\n{' '.join(told)}\n\n| feature | meaning | type | unit | values | null when | owner |\n| --- | --- | --- | --- | --- | --- | --- |\n"
        )
        for one in by_view.get(record.name, []):
            cells = (f"`{one.name}`", one.meaning, one.dtype, one.unit, one.values, one.null_when or "never", one.owner)
            parts.append("| " + " | ".join((cell or "").replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)
