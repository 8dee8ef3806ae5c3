"""Which releases, and which of their models, use a view."""

from collections.abc import Collection
from dataclasses import dataclass

from stillpoint.errors import ModelRefused, ObjectMissing, ReleaseRefused
from stillpoint.lake.objects import Objects
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.parts import load_models, verified_plan
from stillpoint.releases.records import GONE, Release


@dataclass(frozen=True, slots=True)
class ViewUse:
    """One release that reads a view; `models` are the kinds whose model takes a feature of it, or
    one that is computed from it with the request, with the model's digest."""

    view: str
    release: str
    state: str
    models: dict[str, str]


def uses(objects: Objects, views: Collection[str]) -> list[ViewUse]:
    """Return the uses of views by releases that may still answer. A release whose parts are damaged is left to its gate."""
    book = ObjectReleaseBook(objects)
    found = []
    for name in book.releases() if views else ():
        state = book.state(name)
        if state is None or state in GONE:
            continue
        release = book.get(name)
        try:
            plan = verified_plan(objects, release)
        except (ReleaseRefused, ObjectMissing):
            continue
        read = {one.view: one.features for one in plan.services.get(release.feature_service, ())}
        for view in sorted(set(views) & read.keys()):
            computed = {
                column.name
                for one in plan.on_demand
                if any(source.view == view for source in one.sources)
                for column in one.features
            }
            models = _models(objects, release, {f"{view}_age_seconds", *read[view], *computed})
            found.append(ViewUse(view, name, str(state), models))
    return found


def _models(objects: Objects, release: Release, taken: Collection[str]) -> dict[str, str]:
    try:
        models = load_models(objects, release.routes)
    except (ModelRefused, ObjectMissing):
        return {}
    return {
        str(kind): route.sha256
        for kind, route in release.routes.items()
        if route.sha256 in models and not set(taken).isdisjoint(models[route.sha256].input_columns)
    }
