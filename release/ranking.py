"""Ranks contents for a user by a release, for the gate and the rehearsal; serving has its own fast path."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from release.gate import Side
from stillpoint.app.entities import user as user_entity
from stillpoint.app.feature_set import item_of
from stillpoint.features.model_columns import feature_column
from stillpoint.features.request_time import REQUEST_TIMESTAMP, compute
from stillpoint.messages import Kind
from stillpoint.stores.reading.columns import OnlineColumns

Resolve = Callable[[Side, OnlineColumns], int | None]
"""Returns the user's row in the model's collaborative factors; None for a user without one."""


def guarded(side: Side, user: OnlineColumns) -> int | None:
    """Resolve as serving does: the mapping versions of fill marker and user row must equal the model's, else the model is not used."""
    expected = side.release.mapping_version
    found = user.fill_marker
    if found is None or not found.fill_complete or found.mapping_version != expected:
        return None
    return unguarded(side, user) if user.values("mapping_version")[0] == expected else None


def unguarded(side: Side, user: OnlineColumns) -> int | None:
    """Resolve to the stored sequence id unchecked, which ranks for another user under a stale mapping. For demonstrations only."""
    sequence = user.values("sequence_id")[0]
    return None if sequence is None else int(sequence)


def known(sequence_id: int) -> Resolve:
    """Resolve to a given row, whatever the colour holds."""
    return lambda side, user: sequence_id


def rank(
    side: Side, user_id: str, kind: Kind, contents: Sequence[str], *, now_us: int, resolve: Resolve = guarded
) -> np.ndarray:
    """Return one score per content, float64, from the features in the release's colour and its model of this kind."""
    bundle = side.models[side.release.routes[kind].sha256]
    features = side.features
    item = item_of(features)
    planned = {layout.name for layout in side.plan.views}
    users = [view.name for view in features.views if view.entity == user_entity and view.name in planned]
    items = [view.name for view in features.of(item) if view.name in planned]
    user = side.reader.read(users, {"user_id": [user_id]}, now_us=now_us)
    content = side.reader.read(items, {item.join_key: list(contents)}, now_us=now_us)
    columns: dict[str, Any] = {REQUEST_TIMESTAMP: np.array([float(now_us)])}
    for read in (user, content):
        for view in features.views:
            if view.name not in read.views:
                continue
            columns[f"{view.name}_age_seconds"] = read.age_seconds(view.name)
            for feature in view:
                columns[feature.name] = feature_column(feature.name, feature.dtype, read.column(feature.name))
    columns |= compute(columns, features.request_features)
    return bundle.score(bundle.select(columns, contents), content_ids=contents, sequence_id=resolve(side, user))
