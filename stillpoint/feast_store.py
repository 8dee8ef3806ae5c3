"""The `feast.FeatureStore` that a name means."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import feast
from feast.repo_config import RepoConfig

from stillpoint.feast_config import Which, frozen_registry, repo_document, resolve
from stillpoint.lake.objects import open_objects
from stillpoint.releases.book import ObjectReleaseBook
from stillpoint.releases.colour import SANDBOX, Colour
from stillpoint.releases.records import Pointer, Release
from stillpoint.settings import Settings


def repo_config(settings: Settings, which: Colour | str, *, mapping_version: int | None = None) -> RepoConfig:
    """Return a colour's Feast configuration as an object."""
    return RepoConfig(**repo_document(settings, which, mapping_version=mapping_version), repo_path=Path.cwd())


class ReleaseFeatureStore(feast.FeatureStore):
    """A `feast.FeatureStore` over a live release's frozen registry. Warns once when it is no longer the live one."""

    def __init__(self, config: RepoConfig, *, release: Release, live: Callable[[], Pointer | None]) -> None:
        super().__init__(config=config)
        self.release = release
        self._live = live
        self._warned = False

    def _warn_if_left_behind(self) -> None:
        if self._warned:
            return
        pointer = self._live()
        if pointer is not None and pointer.release != self.release.id:
            self._warned = True
            warnings.warn(
                f"this store reads release {self.release.id}, and {pointer.release} is live now; "
                'call stillpoint.feature_store("live") again',
                stacklevel=3,
            )

    def get_online_features(self, *args: Any, **kwargs: Any) -> Any:
        self._warn_if_left_behind()
        return super().get_online_features(*args, **kwargs)

    def get_historical_features(self, *args: Any, **kwargs: Any) -> Any:
        self._warn_if_left_behind()
        return super().get_historical_features(*args, **kwargs)


def feature_store(which: Which | Colour = "sandbox", settings: Settings | None = None) -> feast.FeatureStore:
    """Return the Feast store that a name means: `live`, `idle`, `sandbox` or a colour.

    `live` reads the release's frozen registry, exactly what inference reads; its `release` attribute says which one it
    is. The others read the colour's own registry.

    Raises:
        ReleaseRefused: `which` is `live` or `idle`, and no release is live yet.
        CorruptData: the frozen registry does not match its record.
    """
    settings = settings or Settings.load()
    if which == SANDBOX:
        return feast.FeatureStore(config=repo_config(settings, SANDBOX, mapping_version=settings.mapping_version))
    objects = open_objects(settings.lake, settings.aws_client_arguments())
    book = ObjectReleaseBook(objects)
    colour, release = resolve(which, book)
    config = repo_config(settings, colour, mapping_version=release.mapping_version if release else None)
    if which != "live" or release is None:
        return feast.FeatureStore(config=config)
    frozen = frozen_registry(settings, objects, release)
    config = config.model_copy(update={"registry_config": {"path": str(frozen), "cache_ttl_seconds": 0}})
    return ReleaseFeatureStore(config, release=release, live=book.live)
