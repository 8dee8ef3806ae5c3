"""Opens the lake that the settings name, with the columns of the events of the settings' app."""

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
    columns = event_columns(load_app(settings.app).events)
    return Lake(open_objects(settings.lake, settings.aws_client_arguments()), columns)
