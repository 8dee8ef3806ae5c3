"""What is there to recommend, as columns that are ready for the model?

Titles and durations come from the lake's `catalogue/`, content features from the release's online store. A catalogue is
immutable; the follower replaces it when it has aged.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillpoint.errors import ReleaseRefused
from stillpoint.features.declarations import CONTENT_PROFILES, EMBEDDING_LENGTH
from stillpoint.stores.columns import OnlineColumns

FREE_CATEGORY = "music"
FREE_SHARE = 3
"""One in three contents of a category, the shortest, is free to people without a subscription."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All contents, sorted by id. `columns` are content features by name, each with one row per content."""

    content_ids: tuple[str, ...]
    titles_text: tuple[str, ...]
    categories: tuple[str, ...]
    durations: tuple[int, ...]
    columns: Mapping[str, npt.NDArray[Any]]
    popularity_rank: npt.NDArray[np.int64]
    _by_categories: dict[tuple[str, ...], npt.NDArray[np.intp]] = field(default_factory=dict)

    @cached_property
    def places(self) -> dict[str, int]:
        return {content_id: place for place, content_id in enumerate(self.content_ids)}

    @cached_property
    def all_places(self) -> npt.NDArray[np.intp]:
        return np.arange(len(self.content_ids), dtype=np.intp)

    @cached_property
    def titles(self) -> npt.NDArray[np.float32]:
        """Title embeddings with zeros where a title has none, for dot products."""
        return np.nan_to_num(self.columns["title_embedding"], nan=0.0).astype(np.float32)

    @cached_property
    def free(self) -> frozenset[int]:
        """Places of what people without a subscription may play: all music, and of every other category the shortest third.

        Equal durations are ordered by content id. The catalogue carries no entitlement, so this one rule stands for it.
        """
        found: set[int] = set()
        for category in set(self.categories):
            members = [place for place, name in enumerate(self.categories) if name == category]
            members.sort(key=lambda place: (self.durations[place], self.content_ids[place]))
            keep = len(members) if category == FREE_CATEGORY else -(-len(members) // FREE_SHARE)
            found.update(members[:keep])
        return frozenset(found)

    def of_categories(self, categories: Iterable[str]) -> npt.NDArray[np.intp]:
        """Return the places of the contents of these categories, in order."""
        wanted = tuple(str(category) for category in categories)
        places = self._by_categories.get(wanted)
        if places is None:
            places = np.array([p for p, name in enumerate(self.categories) if name in wanted], dtype=np.intp)
            self._by_categories[wanted] = places
        return places


def newest_contents(table: pa.Table) -> list[dict[str, Any]]:
    """Return one row per content of the lake's `catalogue/`, the newest by `updated_at`, ordered by id."""
    newest: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        held = newest.get(row["content_id"])
        if held is None or row["updated_at"] >= held["updated_at"]:
            newest[row["content_id"]] = row
    return [newest[content_id] for content_id in sorted(newest)]


def build_catalogue(
    contents: Sequence[Mapping[str, Any]], features: OnlineColumns, popular: Sequence[str]
) -> Catalogue:
    """Put contents (`newest_contents`) and their online features, read in the same order, together.

    Raises:
        ReleaseRefused: there is no content.
    """
    if not contents:
        raise ReleaseRefused("the lake's catalogue/ is empty: there is nothing to recommend; load the catalogue first")
    columns = {name: feature_column(features, name) for name in CONTENT_PROFILES.feature_names}
    ids = tuple(str(row["content_id"]) for row in contents)
    rank = {content_id: place for place, content_id in enumerate(popular)}
    return Catalogue(
        content_ids=ids,
        titles_text=tuple(str(row["title"]) for row in contents),
        categories=tuple(str(row["category"]) for row in contents),
        durations=tuple(int(row["duration_seconds"]) for row in contents),
        columns=columns,
        popularity_rank=np.array([rank.get(content_id, len(rank)) for content_id in ids], dtype=np.int64),
    )


def feature_column(features: OnlineColumns, name: str) -> npt.NDArray[Any]:
    """Return a feature as models take it; an embedding that is null in all rows is (n, 256) of NaN."""
    values = features.column(name)
    if name.endswith("_embedding") and values.ndim != 2:
        full = np.full((len(values), EMBEDDING_LENGTH), np.nan, dtype=np.float32)
        for row, value in enumerate(values):
            if value is not None:
                full[row] = value
        return full
    return values
