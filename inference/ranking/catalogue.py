"""The contents that can be recommended and their features, read once per loaded release."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stillpoint.app.feature_set import FeatureSet, item_of
from stillpoint.catalogue import read_catalogue
from stillpoint.clock import from_micros, to_micros
from stillpoint.dtypes import DType
from stillpoint.errors import ReleaseRefused
from stillpoint.features.model_columns import feature_column
from stillpoint.lake.tables import Lake
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import ABSENT_US

_READ_AT_ONCE = 2_000
_NEVER = np.iinfo(np.int64).max

Cached = TypeVar("Cached")


@dataclass(frozen=True, slots=True)
class ContentTable:
    """All contents, one row each in the order of their ids; `columns` are the content features."""

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    categories: npt.NDArray[Any]
    durations: npt.NDArray[np.float64]
    columns: Mapping[str, npt.NDArray[Any]]
    features: FeatureSet = field(repr=False, compare=False)
    """The app's features, of which `columns` are those of the item."""
    offered_from: npt.NDArray[np.int64] | None = None
    """From when each may be shown, in microseconds since 1970; None: all at any time."""
    offered_until: npt.NDArray[np.int64] | None = None
    """The first moment at which each may not be shown any more."""
    origin: "tuple[ContentTable, npt.NDArray[np.intp]] | None" = field(default=None, repr=False, compare=False)
    """Set by `part`: the table that the rows were chosen from, and their positions in it."""
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)

    def cached(self, key: Any, make: Callable[[], Cached]) -> Cached:
        """Return the cached result of `make` for a key; computed at the first call, kept as long as this table."""
        if key not in self._cache:
            self._cache[key] = make()
        made: Cached = self._cache[key]
        return made

    def offered_at(self, moment_us: int) -> "ContentTable":
        """Return the contents that may be shown at `moment_us`; cached until one becomes available or ends."""
        if self.offered_from is None or self.offered_until is None:
            return self
        first, end = self.offered_from, self.offered_until
        changes = self.cached("changes", lambda: np.unique(np.concatenate([first, end])))

        def choose() -> "ContentTable":
            offered = (first <= moment_us) & (moment_us < end)
            return self if offered.all() else self.take(np.flatnonzero(offered))

        return self.cached(("offered", int(np.searchsorted(changes, moment_us, side="right"))), choose)

    def withheld_at(self, moment_us: int) -> frozenset[str]:
        """Return the ids of the contents that may not be shown at `moment_us`; cached like `offered_at`."""
        offered = self.offered_at(moment_us)
        if offered is self:
            return frozenset()
        return offered.cached("withheld", lambda: frozenset(self.ids) - frozenset(offered.ids))

    def of_categories(self, categories: tuple[str, ...]) -> "ContentTable":
        """Return the contents of the given categories; cached per combination."""

        def choose() -> ContentTable:
            return self.take(np.flatnonzero(np.isin(self.categories.astype(str), [str(one) for one in categories])))

        return self.cached(categories, choose)

    def popularity(self, by_popularity: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return each content's rank in `by_popularity` (0 is the most popular), NaN if it is not listed.

        Cached for the last list given.
        """
        held = self._cache.get("popularity")
        if held is None or held[0] is not by_popularity:
            places = {content_id: place for place, content_id in enumerate(by_popularity)}
            held = by_popularity, np.array([places.get(content_id, np.nan) for content_id in self.ids], np.float64)
            self._cache["popularity"] = held
        found: npt.NDArray[np.float64] = held[1]
        return found

    def by_group(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return one row per group that occurs, and for each content the position of its group among these rows.

        Cached. Features that depend on a content's group alone (`group_of`) are computed once per group this way; without
        groups each content is its own.
        """

        def group() -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
            name = group_of(self.features)
            if name is None:
                return np.arange(len(self)), np.arange(len(self))
            _, first, own = np.unique(self.columns[name].astype(str), return_index=True, return_inverse=True)
            return first, own

        return self.cached("by_group", group)

    def take(self, rows: npt.NDArray[np.intp]) -> "ContentTable":
        """Return the given rows, in the given order."""
        return ContentTable(
            ids=tuple(self.ids[row] for row in rows),
            titles=tuple(self.titles[row] for row in rows),
            categories=self.categories[rows],
            durations=self.durations[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            features=self.features,
            offered_from=None if self.offered_from is None else self.offered_from[rows],
            offered_until=None if self.offered_until is None else self.offered_until[rows],
        )

    def part(self, rows: npt.NDArray[np.intp]) -> "ContentTable":
        """Return the given rows for one request; `origin` refers back to this table, so that its caches can be used."""
        return replace(self.take(rows), origin=(self, rows))


def group_of(features: FeatureSet) -> str | None:
    """Return the item's text feature with a closed set of values, by which contents are grouped; None if there is none."""
    own = (feature for view in features.of(features.item) for feature in view)
    return next((one.name for one in own if one.dtype is DType.STRING and one.values is not None), None)


def load_contents(lake: Lake, reader: OnlineReader, *, now_us: int) -> ContentTable:
    """Read the newest catalogue from the lake and the contents' features from the release's colour.

    Raises:
        ReleaseRefused: the catalogue is empty, or none of its contents has features in this colour.
        CorruptData: a stored value is not of its feature's type.
    """
    newest = read_catalogue(lake, now=from_micros(now_us))
    if not newest:
        raise ReleaseRefused("the lake's catalogue is empty, so nothing can be recommended; load one before serving")
    ids = [row.content_id for row in newest]
    item = item_of(lake.features)
    views = lake.features.of(item)
    columns: dict[str, npt.NDArray[Any]] = {}
    lasting = np.zeros(len(ids), dtype=bool)
    for view in views:
        parts = [
            reader.read([view.name], {item.join_key: ids[start : start + _READ_AT_ONCE]}, now_us=now_us)
            for start in range(0, len(ids), _READ_AT_ONCE)
        ]
        for feature in view:
            read = [feature_column(feature.name, feature.dtype, part.column(feature.name)) for part in parts]
            columns[feature.name] = np.concatenate(read)
        columns[f"{view.name}_age_seconds"] = np.concatenate([part.age_seconds(view.name) for part in parts])
        if view.ttl is None:
            lasting |= np.concatenate([part.event_us(view.name) for part in parts]) != ABSENT_US
    if all(view.ttl is not None for view in views):
        lasting[:] = True
    if not lasting.any():
        raise ReleaseRefused(
            f"none of {len(ids)} contents has {' or '.join(view.name for view in views)} in project {reader.plan.project}; "
            "run `stillpoint daily` and prepare the release again"
        )
    rows = np.flatnonzero(lasting)
    everything = ContentTable(
        ids=tuple(ids),
        titles=tuple(row.title for row in newest),
        categories=columns["category"],
        durations=columns["duration_seconds"],
        columns=columns,
        features=lake.features,
        offered_from=np.array([_NEVER if row.withdrawn else to_micros(row.published_at) for row in newest], np.int64),
        offered_until=np.array([_NEVER if row.until is None else to_micros(row.until) for row in newest], np.int64),
    )
    return everything.take(rows)
