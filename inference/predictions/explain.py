"""Explains a served recommendation: which features it was made from, and what each added to the score.

The served log holds the user's rows as they were read. Contributions are computed from those rows with the release's
model. Content features are not logged: they are read now, from the release's colour.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.live.loaded_release import LoadedRelease
from inference.predictions.served_lookup import ServedLookup
from inference.ranking.catalogue import ContentTable
from inference.ranking.matrix import model_columns
from inference.ranking.user_features import UserFeatures
from stillpoint.app.entities import user
from stillpoint.app.feature_set import USER_SEQUENCE, FeatureSet
from stillpoint.clock import to_micros
from stillpoint.errors import NotFound
from stillpoint.features.model_columns import feature_column
from stillpoint.features.request_time import REQUEST_TIMESTAMP
from stillpoint.lake.tables import Lake
from stillpoint.messages import Kind
from stillpoint.model import ModelBundle
from stillpoint.releases.parts import load_model

TOP_FEATURES = 5

Load = Callable[[str, int], LoadedRelease]
"""Loads a release for a generation."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A served recommendation, and for each item the features that moved its score most (log-odds)."""

    served: Mapping[str, Any]
    contributions: Mapping[str, Mapping[str, float]]

    def document(self) -> dict[str, Any]:
        """Return a JSON-ready document, in which embeddings are replaced by their length."""
        views = [
            {
                "view": view["view"],
                "status": view["status"],
                "age_seconds": _age(self.served, view),
                "values": {name: _short(value) for name, value in json.loads(view["values"]).items()},
            }
            for view in self.served["views"]
        ]
        plain = (
            "recommendation_id",
            "request_id",
            "release",
            "generation",
            "arm",
            "user_id",
            "kind",
            "source",
            "trigger",
        )
        return {
            **{name: self.served[name] for name in plain},
            "served_at": self.served["served_at"].isoformat(),
            "items": list(self.served["items"]),
            "views": views,
            "contributions": {item: dict(parts) for item, parts in self.contributions.items()},
        }


def served_record(lake: Lake, recommendation_id: str) -> dict[str, Any]:
    """Return a recommendation's row of the served log.

    Raises:
        NotFound: there is no such row; rows reach the lake a few seconds after the answer.
    """
    found = ServedLookup(lake).find(recommendation_id)
    if found is None:
        raise NotFound(
            f"no recommendation {recommendation_id!r} in the served log; it reaches the lake some seconds after the answer"
        )
    return found


class Explainer:
    """Explains recommendations inside a service. Caches the last former release that an explanation needed."""

    def __init__(self, lake: Lake, load: Load) -> None:
        self._lake = lake
        self._lookup = ServedLookup(lake)
        self._load = load
        self._kept: LoadedRelease | None = None

    def __call__(self, recommendation_id: str, live: LoadedRelease) -> dict[str, Any] | None:
        """Return the explanation's document, or None if the served log does not hold the recommendation."""
        served = self._lookup.find(recommendation_id)
        if served is None:
            return None
        loaded = self._loaded(served["release"], served["generation"], live)
        route = loaded.release.routes[Kind(served["kind"])]
        bundle = load_model(self._lake.objects, route)
        return explain(served, bundle, loaded.contents).document()

    def _loaded(self, release: str, generation: int, live: LoadedRelease) -> LoadedRelease:
        kept = self._kept
        for one in (live, kept):
            if one is not None and (one.id, one.generation) == (release, generation):
                return one
        self._kept = loaded = self._load(release, generation)
        return loaded


def logged_user(served: Mapping[str, Any], features: FeatureSet) -> UserFeatures:
    """Return the user's features as the prediction used them."""
    at_us = to_micros(served["served_at"])
    held = {view["view"]: (view, json.loads(view["values"])) for view in served["views"]}
    columns: dict[str, npt.NDArray[Any]] = {REQUEST_TIMESTAMP: np.array([at_us], np.int64)}
    for declared in features.of(user):
        view, values = held[declared.name]
        for feature in declared:
            columns[feature.name] = feature_column(feature.name, feature.dtype, [values[feature.name]])
        age = _age(served, view) if view["status"] in ("PRESENT", "NULL_VALUE") else None
        columns[f"{declared.name}_age_seconds"] = np.array([np.nan if age is None else age])
    mapping = held[USER_SEQUENCE.name][1]
    return UserFeatures(
        user_id=served["user_id"],
        columns=columns,
        sequence_id=mapping["sequence_id"],
        mapping_version=mapping["mapping_version"],
        fill_marker=None,
        views=tuple(served["views"]),
    )


def explain(served: Mapping[str, Any], bundle: ModelBundle, contents: ContentTable) -> Explanation:
    """Explain a row of the served log. A fallback used no features and has no contributions."""
    if served["source"] != "model":
        return Explanation(served, {})
    return Explanation(served, contributions(logged_user(served, contents.features), served["items"], bundle, contents))


def contributions(
    user: UserFeatures, items: Sequence[str], bundle: ModelBundle, contents: ContentTable
) -> dict[str, dict[str, float]]:
    """Return for each item what the features of most weight added to its score (log-odds); contents unknown by now are left out."""
    places = {content_id: row for row, content_id in enumerate(contents.ids)}
    rows = np.array([places[item] for item in items if item in places], dtype=np.intp)
    if not len(rows):
        return {}
    shown = contents.take(rows)
    columns = bundle.select(model_columns(user, shown), shown.ids)
    added = bundle.contributions(columns, content_ids=shown.ids, sequence_id=user.sequence_id)
    return {item: _largest(added, row) for row, item in enumerate(shown.ids)}


def _largest(added: Mapping[str, npt.NDArray[Any]], row: int) -> dict[str, float]:
    parts = {name: float(values[row]) for name, values in added.items() if name != "bias"}
    chosen: Sequence[str] = sorted(parts, key=lambda name: -abs(parts[name]))[:TOP_FEATURES]
    return {name: parts[name] for name in chosen}


def _age(served: Mapping[str, Any], view: Mapping[str, Any]) -> float | None:
    if view["event_timestamp"] is None:
        return None
    return float((served["served_at"] - view["event_timestamp"]).total_seconds())


def _short(value: Any) -> Any:
    return f"{len(value)} numbers" if isinstance(value, list) else value
