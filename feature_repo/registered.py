"""What `feast apply` imports: the definitions, for the lake and the mapping that the settings name."""

from feature_repo.definitions import define
from stillpoint.settings import Settings

_settings = Settings.load()

# Feast collects the attributes of each module of the repository.
globals().update(define(lake_root=_settings.lake, mapping_version=_settings.mapping_version).named())
