"""The history of releases, and one release whole: its record, its gate's report, how its models did."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from console.sources import Sources
from release.gate import CheckResult, Report, read_report
from release.states import last_report, rollback_target
from release.status import Event, history
from stillpoint.errors import NotFound, ObjectMissing
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.records import History, Intent, Release, State


@dataclass(frozen=True, slots=True)
class ReleaseLine:
    """One release in the list."""

    id: str
    colour: str
    state: str | None
    live: bool
    at: datetime
    by: str
    why: str
    mapping_version: int
    ndcg: float | None


@dataclass(frozen=True, slots=True)
class Book:
    """All releases, the newest first, and all that was done, the newest first."""

    lines: tuple[ReleaseLine, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """How one ranking did on held-out lists: NDCG@3 with its 95 % interval."""

    ranking: str
    value: float
    low: float
    high: float
    lists: int


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """A model of the release: the kinds that it answers, what it was trained on, and how it did against baselines."""

    sha256: str
    kinds: tuple[str, ...]
    endpoint: str | None
    snapshot_id: str | None
    data: str | None
    judged: tuple[Judged, ...]


@dataclass(frozen=True, slots=True)
class Verbs:
    """Which verbs may be tried on a release now; the verbs themselves decide."""

    check: bool
    switch: bool
    roll_back: bool
    retire: bool


@dataclass(frozen=True, slots=True)
class ReleaseDetail:
    """One release. `record` is None for one that was never completed."""

    intent: Intent
    record: Release | None
    state: State | None
    live: bool
    steps: tuple[Event, ...]
    report: Report | None
    models: tuple[ModelEvaluation, ...]
    verbs: Verbs
    previous: str | None


def book(sources: Sources) -> Book:
    """Read the release book."""
    context = sources.release_context()
    releases, pointer = context.book, context.book.live()
    recorded, live = set(releases.releases()), None if pointer is None else pointer.release
    lines = [
        _line(one, releases.get(one.intent.id) if one.intent.id in recorded else None, live)
        for one in releases.histories()
    ]
    return Book(tuple(reversed(lines)), tuple(reversed(history(context))))


def detail(sources: Sources, release_id: str) -> ReleaseDetail:
    """Read one release.

    Raises:
        NotFound: there is none of this id.
    """
    context = sources.release_context()
    releases = context.book
    histories = {one.intent.id: one for one in releases.histories()}
    found = histories.get(release_id)
    if found is None:
        known = ", ".join(histories) or "none yet"
        raise NotFound(f"there is no release {release_id[:32]!r}; there are: {known}")
    pointer = releases.live()
    live = pointer is not None and pointer.release == release_id
    record = releases.get(release_id) if release_id in releases.releases() else None
    key = last_report(releases, release_id)
    return ReleaseDetail(
        intent=found.intent,
        record=record,
        state=found.state,
        live=live,
        steps=tuple(one for one in reversed(history(context)) if one.release == release_id),
        report=None if key is None else _report(releases, key),
        models=tuple(_models(sources, found.intent)),
        verbs=verbs(
            found.state, live=live, target=rollback_target(releases) == release_id, recorded=record is not None
        ),
        previous=_previous(releases, histories, release_id),
    )


def verbs(state: State | None, *, live: bool, target: bool, recorded: bool) -> Verbs:
    """Return which verbs make sense for a release in this state."""
    standing = state in (State.PREPARED, State.CHECKED) and recorded
    return Verbs(
        check=standing,
        switch=standing and not live,
        roll_back=target,
        retire=not live and state in (State.PREPARING, State.PREPARED, State.CHECKED, State.ROLLBACK_TARGET),
    )


def failures(report: Report) -> tuple[CheckResult, ...]:
    """Return a report's checks, the red ones first."""
    return tuple(sorted(report.results, key=lambda one: one.passed))


def _line(one: History, record: Release | None, live: str | None) -> ReleaseLine:
    intent = one.intent
    return ReleaseLine(
        id=intent.id,
        colour=str(intent.colour),
        state=None if one.state is None else one.state.value,
        live=intent.id == live,
        at=intent.at,
        by=intent.by,
        why=intent.why,
        mapping_version=intent.mapping_version,
        ndcg=None if record is None else record.metrics.get("ranker_ndcg_at_3"),
    )


def _report(releases: ObjectReleaseBook, key: str) -> Report | None:
    try:
        return read_report(releases.objects, key)
    except ObjectMissing:
        return None


def _previous(releases: ObjectReleaseBook, histories: dict[str, History], release_id: str) -> str | None:
    """Return the release that this one followed, or would follow: the one live before it."""
    pointers = releases.pointers()
    first = next((one for one in pointers if one.release == release_id), None)
    if first is not None:
        return first.previous
    if pointers and pointers[-1].release != release_id:
        return pointers[-1].release
    return None


def _models(sources: Sources, intent: Intent) -> Sequence[ModelEvaluation]:
    from training.train import load_evaluation

    found: dict[str, ModelEvaluation] = {}
    for kind, route in intent.routes.items():
        if route.sha256 in found:
            known = found[route.sha256]
            found[route.sha256] = ModelEvaluation(
                known.sha256, (*known.kinds, kind.value), known.endpoint, known.snapshot_id, known.data, known.judged
            )
            continue
        try:
            evaluation = load_evaluation(sources.lake, route.sha256)
        except ObjectMissing:
            found[route.sha256] = ModelEvaluation(route.sha256, (kind.value,), route.endpoint, None, None, ())
            continue
        judged = tuple(
            Judged(name, one.value, one.low, one.high, one.lists)
            for name, metrics in evaluation.results["all"].items()
            if (one := metrics.get("ndcg@3")) is not None and not math.isnan(one.value)
        )
        found[route.sha256] = ModelEvaluation(
            route.sha256, (kind.value,), route.endpoint, evaluation.snapshot_id, evaluation.data, judged
        )
    return list(found.values())
