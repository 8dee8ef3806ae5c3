"""Prepares a release: empties and fills its colour, verifies its models, writes its record.

Every step can be repeated. The intent is written before anything is changed (`intent.json`), the progress beside it
(`progress.json`); a verb that was killed finds both when it is run again, and continues.
"""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from release import canaries, colour, dual_write, fill
from release.context import HeldReleaseLease, ReleaseContext, exclusive
from release.models import one_mapping, refuse_unknown_inputs
from release.states import occupants, settle
from release.waiting import wait_until_unused
from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.errors import AlreadyExists, ObjectMissing, ReleaseRefused
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle
from stillpoint.releases.canaries import read_canaries
from stillpoint.releases.colour import Colour, project_name
from stillpoint.releases.parts import load_models, verified_plan
from stillpoint.releases.records import Intent, Pointer, Release, Route, State
from stillpoint.releases.streamed_views import StreamedViews, read_streamed_views
from stillpoint.releases.write_targets import Target, read_control
from stillpoint.stores.redis.connection import parse_connection_string
from stillpoint.stores.redis.shards import shards


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRelease:
    """The parameters of a new release. `model_only` shares the live release's features, without a fill."""

    routes: dict[Kind, Route]
    why: str
    model_only: bool = False
    feature_service: str = RANKER_SERVICE


class _Progress(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    barrier: int | None = None
    views: tuple[str, ...] = ()


def prepare(context: ReleaseContext, wanted: NewRelease) -> Release:
    """Fill the idle colour with the newest features, put the models beside it, and record the release as prepared.

    The live release is not disturbed. The first release of all goes to green.

    Raises:
        ReleaseRefused: a rollback target still needs the colour; models of different mappings; Redis has no room; the
            stream does not acknowledge its new targets. ModelRefused: a model is damaged. LeaseHeld: another release verb runs.
    """
    with exclusive(context, "prepare") as held:
        live = settle(context)
        models = load_models(context.lake.objects, wanted.routes)
        mapping_version = one_mapping(models)
        held.check()  # loading took long; whoever took the lease meanwhile may be switching to what is noted as gone here
        if wanted.model_only:
            intent = _intend_model_only(context, wanted, mapping_version, live)
        else:
            intent = _intend(context, wanted, mapping_version, live)
        if context.book.state(intent.id) is None:
            _enter(context, intent, State.PREPARING)
        if intent.id not in context.book.releases():
            release = _share(context, intent, models) if intent.shares else _fill(context, held, intent, models, live)
            context.progress("record")
            held.check()
            context.book.record(release)
        release = context.book.get(intent.id)
        context.progress("mark complete")
        held.check()
        colour.mark(
            context.online(release.colour),
            release.project,
            mapping_version=release.mapping_version,
            fill_complete=True,
        )
        context.progress("enter prepared")
        _enter(context, intent, State.PREPARED)
        return release


def _refuse_unjoined(target: Target, running: StreamedViews | None) -> None:
    """Make sure that the stream advances every streamed view of the release: a fill of one that still joins has a gap."""
    missing = [] if running is None else [name for name in target.views if name not in running.views]
    if missing:
        raise ReleaseRefused(
            f"the stream does not advance the view {', '.join(missing)} yet (stream/views.json): it joins when the stream "
            "runs the app that declares it; prepare the release again when it has joined"
        )


def _enter(context: ReleaseContext, intent: Intent, state: State) -> None:
    context.book.enter(intent.id, state, at=context.now(), by=context.operator, why=intent.why)


def _intend(context: ReleaseContext, wanted: NewRelease, mapping_version: int, live: Pointer | None) -> Intent:
    """Claim an id for the idle colour, or find the one that a killed run has claimed for the same."""
    book = context.book
    aim = Colour.GREEN if live is None else book.get(live.release).colour.other
    meant = Intent(
        id=_next_id(context),
        colour=aim,
        mapping_version=mapping_version,
        routes=wanted.routes,
        feature_service=wanted.feature_service,
        at=context.now(),
        by=context.operator,
        why=wanted.why,
    )
    held_by = occupants(book, aim)
    for occupant in held_by:
        if book.state(occupant.id) is State.ROLLBACK_TARGET:
            since = book.transitions(occupant.id)[-1].at
            until = since + timedelta(seconds=context.settings.rollback_keep)
            raise ReleaseRefused(
                f"release {occupant.id} is the rollback target and still needs {aim} (kept until "
                f"{until:%Y-%m-%d %H:%M} UTC); run `stillpoint release retire {occupant.id}` to give up that way back"
            )
    for occupant in held_by:
        state = book.state(occupant.id)
        if state in (None, State.PREPARING) and meant.wants_the_same(occupant):
            return occupant
        if state is None:
            _enter(context, occupant, State.PREPARING)
            state = State.PREPARING
        left = State.FAILED if state is State.PREPARING else State.RETIRED
        book.enter(occupant.id, left, at=context.now(), by=context.operator, why=f"{meant.id} takes its colour {aim}")
    _claim(context, meant)
    return meant


def _intend_model_only(
    context: ReleaseContext, wanted: NewRelease, mapping_version: int, live: Pointer | None
) -> Intent:
    if live is None:
        raise ReleaseRefused("nothing is live, so there are no features to share; prepare a whole release first")
    base = context.book.get(live.release)
    if mapping_version != base.mapping_version:
        raise ReleaseRefused(
            f"the models come from mapping {mapping_version} and {base.id}, whose features they would use, holds mapping "
            f"{base.mapping_version}: they would predict for other users; prepare a whole release"
        )
    meant = Intent(
        id=_next_id(context),
        colour=base.colour,
        mapping_version=mapping_version,
        routes=wanted.routes,
        feature_service=wanted.feature_service,
        shares=base.id,
        at=context.now(),
        by=context.operator,
        why=wanted.why,
    )
    for history in context.book.histories():
        if history.state in (None, State.PREPARING) and meant.wants_the_same(history.intent):
            return history.intent
    _claim(context, meant)
    return meant


def _next_id(context: ReleaseContext) -> str:
    numbers = [int(intent.id[1:]) for intent in context.book.intents()]
    return f"r{max(numbers, default=0) + 1:04d}"


def _claim(context: ReleaseContext, intent: Intent) -> None:
    context.progress(f"claim {intent.id}")
    try:
        context.book.intend(intent)
    except AlreadyExists:
        raise ReleaseRefused(f"{intent.id} was claimed at this moment by somebody else; try again") from None


def _share(context: ReleaseContext, intent: Intent, models: dict[str, ModelBundle]) -> Release:
    """Return the record of a model-only release: that of the shared release with other models."""
    assert intent.shares is not None
    base = context.book.get(intent.shares)
    manifest = next(iter(models.values())).manifest
    if manifest.encoder_sha256 != base.encoder_sha256:
        raise ReleaseRefused(
            f"the models were trained with text encoder {manifest.encoder_sha256[:12]} and {base.id} uses "
            f"{base.encoder_sha256[:12]}; prepare a whole release"
        )
    plan = verified_plan(context.lake.objects, base)
    refuse_unknown_inputs(models, plan, intent.feature_service, context.lake.features)
    canaries.write(
        context.lake.objects, intent.id, intent.mapping_version, read_canaries(context.lake.objects, base.id)
    )
    return base.model_copy(
        update={
            "id": intent.id,
            "routes": intent.routes,
            "snapshot_id": manifest.snapshot_id,
            "metrics": manifest.metrics,
            "shares": base.shares or base.id,
            "created_at": context.now(),
        }
    )


def _fill(
    context: ReleaseContext,
    held: HeldReleaseLease,
    intent: Intent,
    models: dict[str, ModelBundle],
    live: Pointer | None,
) -> Release:
    objects = context.lake.objects
    client = context.online(intent.colour)
    project = project_name(intent.colour)
    chosen = canaries.choose(context.lake, intent.mapping_version, seed=context.settings.seed)
    target = Target(
        colour=intent.colour, project=project, views=tuple(view.name for view in context.lake.features.streamed)
    )
    _refuse_unjoined(target, read_streamed_views(objects))
    progress = _read_progress(context, intent.id)
    control = read_control(objects)
    if progress.barrier is None or target not in control.targets:
        others = dual_write.targets_without(control, intent.colour)
        context.progress(f"stop the stream's writes into {intent.colour}")
        held.check()
        dual_write.aim(context, others)
        context.progress(f"wait until nobody serves from {intent.colour}")
        wait_until_unused(context, [i.id for i in context.book.intents() if i.colour is intent.colour])
        colour.refuse_full_memory(client, needed_bytes=_bytes_of_live(context, live))
        context.progress(f"empty {intent.colour}")
        held.check()
        colour.empty(client, project)
        colour.mark(client, project, mapping_version=intent.mapping_version, fill_complete=False)
        context.progress(f"apply the definitions to {intent.colour}")
        fill.fresh_registry(context, intent.colour, intent.mapping_version)
        context.progress(f"start the stream's writes into {intent.colour}")
        held.check()
        barrier = dual_write.aim(context, (*others, target))
        progress = _Progress(barrier=barrier)
        _write_progress(context, intent.id, progress)
    for view in fill.fill_order(context.lake.features):
        if view.name in progress.views:
            continue
        held.check()
        context.progress(f"fill {view.name}")
        live_client = context.online(context.book.get(live.release).colour) if live else None
        fill.fill_view(context, intent.colour, intent.mapping_version, view, live=live_client, go_on=held.require)
        progress = progress.model_copy(update={"views": (*progress.views, view.name)})
        _write_progress(context, intent.id, progress)
    context.progress("freeze the registry")
    frozen = fill.freeze(context, intent.colour, intent.mapping_version)
    refuse_unknown_inputs(models, frozen.plan, intent.feature_service, context.lake.features)
    manifest = next(iter(models.values())).manifest
    release = Release(
        registry=f"releases/{intent.id}/registry.pb",
        id=intent.id,
        colour=intent.colour,
        project=project,
        connection=str(parse_connection_string(context.settings.connection(intent.colour))),
        registry_sha256=frozen.registry_sha256,
        definitions_sha256=frozen.definitions_sha256,
        read_plan=f"releases/{intent.id}/read_plan.json",
        read_plan_sha256=frozen.plan.sha256,
        feature_service=intent.feature_service,
        encoder_sha256=manifest.encoder_sha256,
        mapping_version=intent.mapping_version,
        routes=intent.routes,
        snapshot_id=manifest.snapshot_id,
        metrics=manifest.metrics,
        created_at=context.now(),
    )
    objects.put(release.registry, frozen.registry)
    objects.put(release.read_plan, frozen.plan.to_json())
    canaries.write(objects, intent.id, intent.mapping_version, chosen)
    return release


def _bytes_of_live(context: ReleaseContext, live: Pointer | None) -> float:
    """Estimate a colour's memory from the live colour's; 0 if nothing is live or the server has no `maxmemory`."""
    if live is None:
        return 0.0
    release = context.book.get(live.release)
    client = context.online(release.colour)
    if not any(shard.max_memory for shard in shards(client)):
        return 0.0
    plan = verified_plan(context.lake.objects, release)
    held = colour.contents(client, plan)
    return (held.bytes_per_user or 0.0) * held.entities.get("user_id", 0)


def _progress_key(release_id: str) -> str:
    return f"releases/{release_id}/progress.json"


def _read_progress(context: ReleaseContext, release_id: str) -> _Progress:
    try:
        return _Progress.model_validate_json(context.lake.objects.get(_progress_key(release_id)))
    except ObjectMissing:
        return _Progress()


def _write_progress(context: ReleaseContext, release_id: str, progress: _Progress) -> None:
    context.lake.objects.put(_progress_key(release_id), progress.model_dump_json().encode())
