"""Makes sure at a start that the stream's states are whole, and says which views they know."""

import logging
from datetime import datetime

from ingestion.plan.changes import changed_views
from ingestion.rebuild import needs_rebuild, rebuild
from ingestion.state_audit import audit
from ingestion.state_store import StateStore
from ingestion.view_states import ViewStates
from stillpoint.app.load import App
from stillpoint.errors import InvalidInput
from stillpoint.features.streamed.engine import section_name
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.tables import Lake
from stillpoint.releases.write_targets import Control
from stillpoint.tombstones import Tombstones

log = logging.getLogger(__name__)


def refuse_other_app(app: App, known: ViewStates | None, control: Control) -> None:
    """Refuse an app that the stream cannot go on with.

    Raises:
        InvalidInput: a view computes something else under its old name, or a release needs a view that the app lacks.
    """
    sections = {view.name: section_name(view) for view in app.views}
    running = {section.partition("@")[0]: section for section in known.active} if known is not None else {}
    told = [
        f"view {name} computes something else than before; call it {free}"
        for name, free in changed_views(sections, running).items()
    ]
    for target in control.targets:
        gone = [name for name in target.views if name not in sections]
        if gone:
            told.append(
                f"{target.colour} needs the view {', '.join(gone)}, which the app lacks; keep it until its release is retired"
            )
    if told:
        raise InvalidInput(f"app {app.name}: {'; '.join(told)}; see `stillpoint plan`")


def make_whole(
    lake: Lake,
    query: str,
    states: StateStore,
    *,
    stream: AppStream,
    tombstones: Tombstones,
    now: datetime,
    newest: int | None,
    epoch: int,
    counted: bool,
) -> ViewStates:
    """Rebuild the states from the lake if some are missing, and return the views that all of them know.

    `newest` is the last committed batch, `counted` says that the states were counted against the lake before. A view that
    the app no longer declares leaves here: its memory would fall behind.
    """
    if newest is None:
        states.accept_dropped(states.shards())
        views = ViewStates(active=stream.sections)
        states.note_views(views)
        return views
    lost = needs_rebuild(states, newest)
    if not lost and not counted:
        found = audit(lake, query, states, stream=stream, tombstones=tombstones, now=now)
        lost = bool(found.missing)
        if lost:
            log.error("Redis has lost states of the stream: %s", found)
    if lost:
        count = rebuild(lake, states, stream=stream, tombstones=tombstones, now=now, batch=newest, epoch=epoch)
        log.warning("states were lost: those of %d users were rebuilt from the lake", count)
    known = states.views() or ViewStates(active=stream.sections_of_version_one)
    views = known.only(stream.sections)
    states.note_views(views)
    return views
