"""The whole plan of an edited app: what changes, who uses it, what it costs, and what is refused."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ingestion.plan.changes import AppChanges, changes
from ingestion.plan.costs import SAMPLE, PastCost, ViewCost, costs
from ingestion.plan.uses import ViewUse, uses
from stillpoint.app.load import App
from stillpoint.encoder import Encoder
from stillpoint.lake.tables import Lake
from stillpoint.releases.streamed_views import read_streamed_views


@dataclass(frozen=True, slots=True)
class AppPlan:
    """What `stillpoint plan` says. `refusals` are sentences; with any, the app must not be started."""

    app: str
    against: str | None
    changes: AppChanges
    uses: tuple[ViewUse, ...]
    costs: tuple[ViewCost, ...]
    past: PastCost
    refusals: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON can hold it."""
        plain = asdict(self)
        for name in ("first", "last"):
            day = plain["past"][name]
            plain["past"][name] = None if day is None else day.isoformat()
        return plain


def plan(
    lake: Lake, app: App, *, encoder: Encoder, max_event_age_us: int, sample: int = SAMPLE, every_view: bool = False
) -> AppPlan:
    """Compare an app with what the stream runs, and measure its new views, or `every_view`. Nothing is written."""
    running = read_streamed_views(lake.objects)
    found = changes(app, running)
    touched = {*found.changed_views, *found.removed_views}
    used = uses(lake.objects, touched)
    measured = {view.name for view in app.views} if every_view else {*found.new_views, *found.changed_views}
    cost, past = costs(lake, app, measured, encoder=encoder, max_event_age_us=max_event_age_us, sample=sample)
    return AppPlan(
        app=app.name,
        against=None if running is None else running.writer,
        changes=found,
        uses=tuple(used),
        costs=tuple(cost),
        past=past,
        refusals=tuple(_refusals(app, found, used)),
    )


def _refusals(app: App, found: AppChanges, used: list[ViewUse]) -> Iterator[str]:
    places = {view.name: view.place for view in app.views}
    for name, free in found.changed_views.items():
        yield (
            f"{places[name]}: view {name} computes something else than the view {name} that runs; rows of both would lie "
            f"under one name, so call the new one {free}, its features too, and keep {name} until no release needs it"
        )
    for name in found.removed_views:
        needed = [f"{one.release} ({one.state})" for one in used if one.view == name]
        if needed:
            yield f"view {name} is gone from the app, and {', '.join(needed)} needs it; keep it until they are retired"


def lines(made: AppPlan) -> Iterator[str]:
    """Yield the plan as lines of text."""
    against = "no stream has said yet what it runs" if made.against is None else f"{made.against} runs the rest"
    yield f"app {made.app}: " + (f"nothing changes; {against}" if made.changes.nothing else against)
    by_view = {one.view: one for one in made.costs}
    for name in made.changes.new_views:
        yield f"  new view {name}: {_cost(by_view[name])}" if name in by_view else f"  new view {name}"
    for name, free in made.changes.changed_views.items():
        yield f"  changed view {name}{_used(made, name)}: call it {free}"
    for name in made.changes.removed_views:
        yield f"  removed view {name}{_used(made, name)}"
    for one in made.costs:
        if one.view not in made.changes.new_views:
            yield f"  view {one.view}: {_cost(one)}"
    for name in made.changes.new_events:
        yield f"  new event type {name}"
    for name in made.changes.removed_events:
        yield f"  removed event type {name}: from the start with this app such records go to quarantine"
    for fields in made.changes.fields:
        kinds = (("new", fields.new), ("changed", fields.changed), ("removed", fields.removed))
        told = "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds if names)
        yield f"  event type {fields.event}: fields {told}"
    past = made.past
    if made.costs and past.first is not None:
        yield (
            f"the past: {past.events:,} events from {past.first} to {past.last}, about {_duration(past.seconds)} on one core "
            f"(measured on {past.sampled_events:,} events, one user in {past.one_user_in:,})"
        )
    for refusal in made.refusals:
        yield f"refused: {refusal}"


def _cost(one: ViewCost) -> str:
    if not one.events:
        return "no event of it lies in the sample"
    return (
        f"{one.state_bytes:,.0f} bytes of state per {one.of}; {one.rows_per_1000:,.0f} rows and "
        f"{one.seconds_per_1000:.3f} processor seconds per 1,000 events"
    )


def _used(made: AppPlan, view: str) -> str:
    told = []
    for one in made.uses:
        if one.view == view:
            models = ", ".join(f"{kind} {digest[:12]}" for kind, digest in sorted(one.models.items()))
            told.append(f"{one.release} ({one.state}{'; models ' + models if models else ''})")
    return f", used by {', '.join(told)}" if told else ", used by no release"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
