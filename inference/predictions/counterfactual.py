"""What a list would have been under other features of the user: the same model, contents and moment. (pure)"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from inference.ranking.catalogue import ContentTable
from inference.ranking.rank import RankRequest, Scorer, rank
from inference.ranking.user_features import UserFeatures
from stillpoint.app.records import View
from stillpoint.features.model_columns import feature_column
from stillpoint.messages import Item, Kind


def with_row(user: UserFeatures, view: View, values: Mapping[str, Any] | None, *, age_seconds: float) -> UserFeatures:
    """Return the user as if `view` held this row, of this age; None: no row. A row past its time to live is none.

    Whole views are replaced, never single features, since a stored row is whole.
    """
    limit = view.max_age_seconds
    row = None if values is None or (limit is not None and age_seconds > limit) else values
    columns = dict(user.columns)
    for feature in view:
        columns[feature.name] = feature_column(
            feature.name, feature.dtype, [None if row is None else row[feature.name]]
        )
    columns[f"{view.name}_age_seconds"] = np.array([np.nan if row is None else age_seconds])
    return replace(user, columns=columns)


def ranked(
    scorer: Scorer, contents: ContentTable, user: UserFeatures, kind: Kind, *, finished: Collection[str], limit: int
) -> tuple[Item, ...]:
    """Return the list that these features give, as a prediction makes it."""
    (found,) = rank(scorer, [RankRequest(user, finished, limit)], contents, kind)
    return found.items
