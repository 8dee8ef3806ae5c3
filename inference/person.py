"""What do the online features say about one person at the moment of a request? (pure)"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.contents import feature_column
from stillpoint.clock import from_micros
from stillpoint.features.declarations import RANKER_SERVICE, SERVICES, USER_SEQUENCE, Entity, View
from stillpoint.features.request import REQUEST_TIMESTAMP
from stillpoint.stores.columns import ABSENT_US, OnlineColumns, Sentinel, Status

USER_VIEWS: tuple[View, ...] = tuple(view for view in SERVICES[RANKER_SERVICE] if view.entity is Entity.USER)
READ_FEATURES: tuple[str, ...] = (*(view.name for view in USER_VIEWS), USER_SEQUENCE.name)
"""What one read fetches of a user: the ranker's views and the user's place in the collaborative filter."""


class Refusal(StrEnum):
    """Why nothing may be predicted from what was read."""

    NOT_FILLED = "the colour is not completely filled"
    OTHER_MAPPING = "the colour holds another id mapping than the model's"
    OTHER_ROW = "the user's row belongs to another id mapping than the model's"


@dataclass(frozen=True, slots=True)
class Person:
    """One user's features. `sequence_id` is None for a user who is new to the mapping."""

    user_id: str
    columns: Mapping[str, npt.NDArray[Any]]
    sequence_id: int | None
    mapping_version: int | None
    sentinel: Sentinel | None
    views: tuple[Mapping[str, Any], ...]

    @property
    def subscribed(self) -> bool:
        return bool(self.columns["subscribed"][0] == 1.0)


def person(columns: OnlineColumns, row: int = 0) -> Person:
    """Return one row of an enforcing read of `READ_FEATURES` as a person."""
    values: dict[str, npt.NDArray[Any]] = {REQUEST_TIMESTAMP: np.array([columns.now_us], np.int64)}
    for view in USER_VIEWS:
        for feature in view:
            values[feature.name] = feature_column(columns, feature.name, feature.dtype)[row : row + 1]
        values[f"{view.name}_age_seconds"] = columns.age_seconds(view.name)[row : row + 1]
    sequence_id, mapping_version = (columns.values(name)[row] for name in USER_SEQUENCE.feature_names)
    return Person(
        user_id=columns.entities["user_id"][row],
        columns=values,
        sequence_id=sequence_id,
        mapping_version=mapping_version,
        sentinel=columns.sentinel,
        views=tuple(_logged(columns, view, row) for view in (*USER_VIEWS, USER_SEQUENCE)),
    )


def guard(found: Person, mapping_version: int) -> Refusal | None:
    """Say why a model of `mapping_version` must not predict from what was read, or None if it may.

    A user without a row under a matching sentinel is new: ranked, without the collaborative score.
    """
    if found.sentinel is None or not found.sentinel.fill_complete:
        return Refusal.NOT_FILLED
    if found.sentinel.mapping_version != mapping_version:
        return Refusal.OTHER_MAPPING
    if found.sequence_id is not None and found.mapping_version != mapping_version:
        return Refusal.OTHER_ROW
    return None


def _logged(columns: OnlineColumns, view: View, row: int) -> dict[str, Any]:
    """Return a view's row as the served log keeps it."""
    values = {}
    for name in view.feature_names:
        value = columns.values(name)[row]
        values[name] = value.tolist() if isinstance(value, np.ndarray) else value
    statuses = [Status(int(columns.status(name)[row])) for name in view.feature_names]
    worst = Status.PRESENT if Status.PRESENT in statuses else max(statuses)
    event_us, created_us = int(columns.event_us(view.name)[row]), int(columns.created_us(view.name)[row])
    return {
        "view": view.name,
        "status": worst.name,
        "event_timestamp": None if event_us == ABSENT_US else from_micros(event_us),
        "created_timestamp": None if created_us == ABSENT_US else from_micros(created_us),
        "values": json.dumps(values),
    }
