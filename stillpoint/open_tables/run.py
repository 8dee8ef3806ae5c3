"""Publishes the open tables of the settings' lake once, as entry points do."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

from stillpoint.clock import Clock
from stillpoint.lake.tables import Lake
from stillpoint.open_tables.catalogue import open_catalogue, without_password
from stillpoint.open_tables.publish import TablePublication, publish
from stillpoint.settings import Settings


def publisher(settings: Settings, lake: Lake, clock: Clock) -> Callable[[], list[TablePublication]] | None:
    """Return a function that publishes what has changed, or None if the settings name no catalogue.

    Its callers hold the lease `publish`.

    Raises:
        StackUnavailable: the catalogue cannot be reached.
    """
    if settings.iceberg_catalogue is None:
        return None
    return partial(_publish, settings, lake, clock)


def _publish(settings: Settings, lake: Lake, clock: Clock) -> list[TablePublication]:
    return publish(
        lake,
        open_catalogue(settings),
        namespace=settings.iceberg_namespace,
        at=clock(),
        keep=timedelta(seconds=settings.iceberg_keep),
        named=without_password(settings.iceberg_catalogue or ""),
    )
