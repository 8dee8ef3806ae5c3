"""The declared features, and where each comes from and goes: event → view → service → model → kind."""

import re
from dataclasses import dataclass

from console.sources import Sources
from stillpoint.app.load import load_app
from stillpoint.app.records import Feature, View
from stillpoint.errors import NotFound
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.parts import load_model

_WINDOW = re.compile(r"_(\d+[mhd])(?:_|$)")


@dataclass(frozen=True, slots=True)
class FeatureLine:
    """One declared feature. `window` is the one in its name, None where it has none."""

    view: str
    name: str
    type: str
    unit: str
    meaning: str
    window: str | None
    null_when: str | None
    owner: str | None
    entity: str
    origin: str
    allowed: str | None

    def fits(self, words: str) -> bool:
        """Return whether every word occurs in what is declared of the feature."""
        told = " ".join((self.view, self.name, self.unit, self.meaning, self.null_when or "", self.owner or "")).lower()
        return all(word in told for word in words.lower().split())


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a view's rows come from, and who uses them. `models` and `kinds` are those of the live release."""

    events: tuple[str, ...]
    view: str
    derived: tuple[str, ...]
    services: tuple[str, ...]
    models: tuple[str, ...]
    kinds: tuple[str, ...]


def catalogue(sources: Sources) -> tuple[FeatureLine, ...]:
    """Return every declared feature, by view."""
    owners = _owners(sources)
    return tuple(
        _line(view, feature, owners.get(view.name)) for view in sources.lake.features.views for feature in view
    )


def view_named(sources: Sources, name: str) -> View:
    """Return a declared view.

    Raises:
        NotFound: there is none of this name.
    """
    views = sources.lake.features.views
    for one in views:
        if one.name == name:
            return one
    raise NotFound(f"there is no view {name[:64]!r}; there are {', '.join(one.name for one in views)}")


def lineage(sources: Sources, view: View) -> Lineage:
    """Return a view's lineage, with the models of the live release that read it."""
    own = set(view.feature_names)
    derived = tuple(one.name for one in sources.lake.features.request_features if own & set(one.inputs))
    models: dict[str, list[str]] = {}
    book = ObjectReleaseBook(sources.lake.objects)
    pointer = book.live()
    if pointer is not None:
        for kind, route in book.get(pointer.release).routes.items():
            taken = set(load_model(sources.lake.objects, route).manifest.feature_order)
            if taken & (own | set(derived) | {f"{view.name}_age_seconds"}):
                models.setdefault(route.sha256[:8], []).append(kind.value)
    return Lineage(
        events=tuple(sorted(view.event_types)) or (_origin(view),),
        view=view.name,
        derived=derived,
        services=tuple(name for name, views in sources.lake.features.services.items() if view in views),
        models=tuple(models),
        kinds=tuple(kind for kinds in models.values() for kind in kinds),
    )


def _origin(view: View) -> str:
    return {"daily": "all events of the days before", "mapping": "training"}.get(view.origin.value, view.origin.value)


def _owners(sources: Sources) -> dict[str, str | None]:
    return {view.name: view.owner for view in load_app(sources.settings.app).views}


def _line(view: View, feature: Feature, owner: str | None) -> FeatureLine:
    window = _WINDOW.search(feature.name)
    return FeatureLine(
        view=view.name,
        name=feature.name,
        type=str(feature.dtype),
        unit=feature.unit,
        meaning=feature.description,
        window=window[1] if window else None,
        null_when=feature.null_when,
        owner=feature.owner or owner,
        entity=view.entity.name,
        origin=view.origin.value,
        allowed=_allowed(feature),
    )


def _allowed(feature: Feature) -> str | None:
    if feature.values is not None:
        return ", ".join(feature.values)
    if feature.minimum is None and feature.maximum is None:
        return None
    low = "" if feature.minimum is None else f"{feature.minimum:g}"
    high = "" if feature.maximum is None else f"{feature.maximum:g}"
    return f"{low} … {high}".strip()
