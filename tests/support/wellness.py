"""The default app, loaded once for all tests, its parser, and events of it made by hand."""

import shutil
import uuid
from pathlib import Path

from stillpoint.app.events import Arrival
from stillpoint.app.load import App, load_app
from stillpoint.app.records import View
from stillpoint.events.parsing import PayloadParser, written_time
from stillpoint.events.recorded import RecordedEvents, event_columns

FOLDER = Path(__file__).parents[2] / "feature_repo"
APP = load_app(str(FOLDER))
PARSER = PayloadParser(APP.events)
EVENT_COLUMNS = event_columns(APP.events)
on_time_events = RecordedEvents(APP.events).on_time
parse = PARSER.parse
_TYPES = {event.type_name: event for event in APP.events}


def arrival(event_id, user_id, type, event_us, arrived_us, platform="ios", **fields):
    """Return an event; fields that its type does not have are left out, and required ones may be missing."""
    kind = _TYPES[str(type)]
    given = {name: fields.get(name) for name in kind.__struct_fields__ if name in fields}
    own = {name: None for name in kind.__struct_fields__[5:] if name not in given}
    one = kind(
        schema_version=1,
        event_id=event_id,
        user_id=user_id,
        event_timestamp=written_time(event_us),
        platform=platform,
        **own,
        **given,
    )
    return Arrival(one, event_us, arrived_us, bytes.fromhex(event_id.replace("-", "")))


def changed(one, **fields):
    """Return an arrival of the same event with other fields."""
    values = {name: getattr(one.event, name) for name in one.event.__struct_fields__} | fields
    own = {name: value for name, value in values.items() if name not in ("schema_version", "event_timestamp")}
    return arrival(own.pop("event_id"), own.pop("user_id"), one.type, one.event_us, one.arrived_us, **own)


FEATURES = APP.features
VIEWS = FEATURES.views
STREAMED_VIEWS = FEATURES.streamed
DAILY_VIEWS = FEATURES.daily
SERVICES = FEATURES.services
REQUEST_FEATURES = FEATURES.request_features
SESSION_BOUNCE_RATES, SEARCH_EMBEDDINGS, BIOMETRICS, USER_PROFILES, USER_TASTE, CONTENT_PROFILES = map(
    FEATURES.view,
    ("session_bounce_rates", "search_embeddings", "biometrics", "user_profiles", "user_taste", "content_profiles"),
)
content = CONTENT_PROFILES.entity


def view(name: str) -> View:
    """Return a view of the app."""
    return FEATURES.view(name)


def with_more(folder: Path, **files: str) -> App:
    """Return the default app as a folder of its own, with more files of declarations."""
    name = f"wellness_{uuid.uuid4().hex[:8]}"
    shutil.copytree(FOLDER, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in files.items():
        (folder / name / f"{file}.py").write_text(text.lstrip())
    return load_app(str(folder / name))
