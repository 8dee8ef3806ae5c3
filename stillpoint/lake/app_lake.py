"""Opens the lake that the settings name, with the columns of the settings' app."""

from stillpoint.app.load import load_app
from stillpoint.events.recorded import event_columns
from stillpoint.lake.objects import open_objects
from stillpoint.lake.tables import Lake
from stillpoint.settings import Settings


def open_lake(settings: Settings) -> Lake:
    """Return the lake; events that were stored before a field was declared have null there.

    Raises:
        InvalidApp: the app has faults, each named with its place.
    """
    app = load_app(settings.app)
    return Lake(open_objects(settings.lake, settings.aws_client_arguments()), app.features, event_columns(app.events))
