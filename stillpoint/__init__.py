"""Stillpoint: real-time features and recommendations around Feast."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import feast

    from stillpoint.lake.tables import Lake
    from stillpoint.settings import Settings

__version__ = "0.1.0"


def feature_store(which: Any = "sandbox", settings: "Settings | None" = None) -> "feast.FeatureStore":
    """Return the `feast.FeatureStore` that a name means: `live`, `idle`, `sandbox`, `green` or `blue`.

    See `stillpoint.feast_store.feature_store`. Feast is imported only here.
    """
    from stillpoint.feast_start import defer_type_checks

    defer_type_checks()
    from stillpoint.feast_store import feature_store as open_store

    return open_store(which, settings)


def open_lake(settings: "Settings | None" = None) -> "Lake":
    """Return the lake that the settings name, with the columns of their app; without settings, the ones of this machine.

    Raises:
        InvalidApp: the app has faults, each named with its place.
    """
    from stillpoint.lake.app_lake import open_lake as opened
    from stillpoint.settings import Settings

    return opened(settings or Settings.load())
