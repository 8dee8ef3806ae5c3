"""What a release changes against another: features, id mapping, models, and the lists of its canary users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from console.sources import Sources
from release.check import side
from release.checks.replay import overlap
from release.context import ReleaseContext
from release.gate import Side
from release.ranking import rank
from stillpoint.catalogue import read_catalogue
from stillpoint.errors import ObjectMissing, StillpointError
from stillpoint.messages import Kind
from stillpoint.releases.canaries import read_canaries
from stillpoint.releases.parts import verified_plan
from stillpoint.releases.records import GONE, Release
from stillpoint.stores.reading.plan import ReadPlan

USERS = 6
FIRST = 3


@dataclass(frozen=True, slots=True)
class CanaryLists:
    """One canary user's first contents under both releases, and the share of the first ten that stay."""

    user_id: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    overlap: float


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences; `lists` is empty where `why_no_lists` says why."""

    against: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    mapping: tuple[int, int]
    models: tuple[tuple[str, str | None, str], ...]
    lists: tuple[CanaryLists, ...]
    why_no_lists: str | None


def changes(sources: Sources, release_id: str, against: str) -> Changes:
    """Compare a release with another one; both are read from, nothing is changed."""
    context = sources.release_context()
    new, old = context.book.get(release_id), context.book.get(against)
    objects = context.lake.objects
    before, after = _features(verified_plan(objects, old)), _features(verified_plan(objects, new))
    lists, why = _lists(context, new, old)
    return Changes(
        against=against,
        added=tuple(sorted(after - before)),
        removed=tuple(sorted(before - after)),
        mapping=(old.mapping_version, new.mapping_version),
        models=tuple(
            (kind.value, old.routes[kind].sha256 if kind in old.routes else None, route.sha256)
            for kind, route in new.routes.items()
        ),
        lists=lists,
        why_no_lists=why,
    )


def _features(plan: ReadPlan) -> set[str]:
    return {f"{view.name}:{column.name}" for view in plan.views for column in view.features}


def _lists(context: ReleaseContext, new: Release, old: Release) -> tuple[tuple[CanaryLists, ...], str | None]:
    for one in (new, old):
        if context.book.state(one.id) in GONE:
            return (
                (),
                f"{one.id} has been retired: its features are no longer in Redis, so its lists cannot be made again.",
            )
    try:
        chosen = read_canaries(context.lake.objects, new.id)[:USERS]
        rows = [row for row in read_catalogue(context.lake, now=context.now()) if not row.withdrawn]
        sides = side(context, old), side(context, new)
        titles = {row.content_id: row.title for row in rows}
        return tuple(_canary(one.user_id, sides, titles, context.now_us()) for one in chosen), None
    except ObjectMissing:
        return (), f"{new.id} was prepared without canary users."
    except StillpointError as error:
        return (), f"The lists cannot be made: {error}."


def _canary(user_id: str, sides: tuple[Side, Side], titles: dict[str, str], now_us: int) -> CanaryLists:
    contents = list(titles)
    before, after = (rank(one, user_id, Kind.TODAY, contents, now_us=now_us) for one in sides)
    return CanaryLists(
        user_id, _first(before, contents, titles), _first(after, contents, titles), overlap(contents, before, after)
    )


def _first(scores: np.ndarray, contents: Sequence[str], titles: dict[str, str]) -> tuple[str, ...]:
    return tuple(titles[contents[place]] for place in np.argsort(-scores, kind="stable")[:FIRST])
