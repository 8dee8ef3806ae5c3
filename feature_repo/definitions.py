"""What `feast apply` imports: the app's definitions, for the lake and the mapping that the settings name."""

from stillpoint.app.load import load_app
from stillpoint.feast_definitions import define
from stillpoint.settings import Settings

_settings = Settings.load()
_features = load_app(_settings.app).features

# Feast collects the attributes of each module of the repository.
globals().update(define(_features, lake_root=_settings.lake, mapping_version=_settings.mapping_version).named())
