"""Reports what is live, what the other colour holds, and the history of releases."""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from release import colour as colours
from release.context import ReleaseContext
from release.dual_write import stream_holder
from release.states import last_report, occupants, rollback_target
from stillpoint.errors import StillpointError
from stillpoint.lake.datasets import DateRange, feature_dataset
from stillpoint.releases.colour import Colour, project_name
from stillpoint.releases.parts import verified_plan
from stillpoint.releases.records import Intent, Release
from stillpoint.releases.write_targets import read_acknowledged, read_control


@dataclass(frozen=True, slots=True, kw_only=True)
class ColourStatus:
    """One colour. `freshness_hours` is the age of the lake's newest row per view; None where nothing is known."""

    colour: Colour
    live: bool
    release: str | None
    state: str | None
    prepared_at: datetime | None
    registry: str | None
    definitions_sha256: str | None
    read_plan_sha256: str | None
    mapping_version: int | None
    sentinel: str
    models: dict[str, str]
    report: str | None
    entities: dict[str, int]
    per_view: dict[str, int]
    bytes_per_user: float | None
    streamed_into: bool
    served_by: tuple[str, ...]
    canaries_wrong: int | None
    """Most canaries that any of these processes found with another user's row; None where nobody has looked."""
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatus:
    """Both colours, the pointer and the stream."""

    generation: int | None
    live: str | None
    rollback_target: str | None
    announced: str | None
    stream: str | None
    control_generation: int
    acknowledged_generation: int | None
    newest_row_age_seconds: dict[str, float | None]
    colours: tuple[ColourStatus, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data (datetimes aside)."""
        return asdict(self)


def status(context: ReleaseContext) -> ReleaseStatus:
    """Return the status from the release book, both colours, the stream's write targets and the serving workers. Changes nothing."""
    book = context.book
    pointer = book.live()
    control = read_control(context.lake.objects)
    acknowledged = read_acknowledged(context.lake.objects)
    holder = stream_holder(context)
    announced = book.announced()
    return ReleaseStatus(
        generation=None if pointer is None else pointer.generation,
        live=None if pointer is None else pointer.release,
        rollback_target=rollback_target(book),
        announced=None if announced is None else announced.release,
        stream=None if holder is None else holder.holder,
        control_generation=control.generation,
        acknowledged_generation=None if acknowledged is None else acknowledged.generation,
        newest_row_age_seconds=_newest_ages(context),
        colours=tuple(
            _colour(context, one, None if pointer is None else pointer.release, {t.colour for t in control.targets})
            for one in Colour
        ),
    )


def _colour(context: ReleaseContext, one: Colour, live: str | None, streamed: set[Colour]) -> ColourStatus:
    book = context.book
    held = occupants(book, one)
    shown = next((intent for intent in held if intent.id == live), held[-1] if held else None)
    release = book.get(shown.id) if shown is not None and shown.id in book.releases() else None
    client = context.online(one)
    project = project_name(one)
    counted = colours.ColourContents({}, {}, None)
    problem = None
    try:
        if release is not None:
            counted = colours.contents(client, verified_plan(context.lake.objects, release))
        found = colours.fill_marker(client, project)
        marked = f"mapping {found.mapping_version}, {'complete' if found.fill_complete else 'not complete'}"
    except StillpointError as error:
        problem, marked = str(error), "unknown"
    routes = (release or shown).routes if shown is not None else {}
    serving = [worker for worker in context.workers() if worker.release in [intent.id for intent in held]]
    return ColourStatus(
        colour=one,
        live=shown is not None and shown.id == live,
        release=shown.id if shown else None,
        state=_state(context, shown),
        prepared_at=release.created_at if release else None,
        registry=f"{context.lake.root}/{release.registry}" if release else None,
        definitions_sha256=release.definitions_sha256 if release else None,
        read_plan_sha256=release.read_plan_sha256 if release else None,
        mapping_version=_mapping(release, shown),
        sentinel=marked,
        models={kind.value: route.sha256 for kind, route in routes.items()},
        report=last_report(book, shown.id) if shown else None,
        entities=counted.entities,
        per_view=counted.per_view,
        bytes_per_user=counted.bytes_per_user,
        streamed_into=one in streamed,
        served_by=tuple(f"{worker.kind} {worker.worker}" for worker in serving),
        canaries_wrong=max((w.canaries_wrong for w in serving if w.canaries_wrong is not None), default=None),
        problem=problem,
    )


def _state(context: ReleaseContext, shown: Intent | None) -> str | None:
    state = context.book.state(shown.id) if shown else None
    return None if state is None else state.value


def _mapping(release: Release | None, shown: Intent | None) -> int | None:
    if release is not None:
        return release.mapping_version
    return shown.mapping_version if shown is not None else None


def _newest_ages(context: ReleaseContext) -> dict[str, float | None]:
    """Return the age of each view's newest committed row of the last two days; streamed views lag by one batch."""
    import pyarrow.compute as pc

    ages: dict[str, float | None] = {}
    recent = DateRange(first=(context.now() - timedelta(days=2)).date())
    for view in context.lake.features.stored:
        table = context.lake.read(feature_dataset(view), recent, columns=["event_timestamp"])
        newest = pc.max(table["event_timestamp"]).as_py() if table.num_rows else None
        ages[view.name] = None if newest is None else (context.now() - newest).total_seconds()
    return ages


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An entry of the history: a new generation of the pointer, or a release's new state."""

    at: datetime
    what: str
    release: str
    by: str
    why: str
    report: str | None = None


def history(context: ReleaseContext) -> list[Event]:
    """Return all generations and transitions, the oldest first: who, when, why, and the gate's report."""
    book = context.book
    events = [
        Event(at=p.at, what=f"generation {p.generation} ({p.move})", release=p.release, by=p.by, why=p.why)
        for p in book.pointers()
    ]
    events += [
        Event(at=step.at, what=step.state.value, release=one.intent.id, by=step.by, why=step.why, report=step.report)
        for one in book.histories()
        for step in one.steps
    ]
    return sorted(events, key=lambda event: (event.at, event.what.startswith("generation")))
