"""One user's online features at the moment of a request, and whether anything may be predicted from them. (pure)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import orjson

from stillpoint.app.entities import user
from stillpoint.app.feature_set import USER_SEQUENCE, FeatureSet
from stillpoint.app.records import View
from stillpoint.clock import from_micros
from stillpoint.dtypes import DType
from stillpoint.features.model_columns import feature_column, number_block
from stillpoint.features.request_time import REQUEST_TIMESTAMP
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.types import ABSENT_US, FieldStatus, FillMarker


class Refusal(StrEnum):
    """Why nothing may be predicted from what was read."""

    NOT_FILLED = "the colour is not completely filled"
    OTHER_MAPPING = "the colour holds another id mapping than the model's"
    OTHER_ROW = "the user's row belongs to another id mapping than the model's"


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """One user's features. `sequence_id` is None for a user whom the id mapping does not contain yet.

    `columns` are arrays of length 1. `views` are the rows as the served log stores them, decoded at first access (by the
    log's thread). `seen` has status and event time of each view, available at once.
    """

    user_id: str
    columns: Mapping[str, npt.NDArray[Any]]
    sequence_id: int | None
    mapping_version: int | None
    fill_marker: FillMarker | None
    views: Sequence[Mapping[str, Any]]
    seen: Sequence[Mapping[str, Any]] = ()

    @property
    def subscribed(self) -> bool:
        return bool(self.columns["subscribed"][0] == 1.0)


class UserReading:
    """What one read fetches of a user (`names`): the ranker's views and the user's place in the collaborative filter."""

    def __init__(self, features: FeatureSet) -> None:
        self.own = features.of(user)
        self.views = (*self.own, USER_SEQUENCE)
        self.names = [view.name for view in self.views]
        types = {feature.name: feature.dtype for view in self.own for feature in view}
        self._others = {name: dtype for name, dtype in types.items() if dtype is DType.STRING or not dtype.is_scalar}
        self._numbers = tuple(name for name in types if name not in self._others)

    def decode_one(self, columns: OnlineColumns) -> UserFeatures:
        """Return the features of the one user whom a read of `names` in enforce mode asked for."""
        (found,) = self.decode(columns)
        return found

    def decode(self, columns: OnlineColumns) -> list[UserFeatures]:
        """Return the features of each user of a read of `names` in enforce mode, in the order of the read.

        Each column is decoded once for all users.

        Raises:
            CorruptData: the stored bytes of a user cannot be decoded.
        """
        read = {name: columns.values(name) for name in (*self._numbers, *USER_SEQUENCE.feature_names)}
        numbers = number_block(read[name] for name in self._numbers)
        others = {name: feature_column(name, dtype, columns.column(name)) for name, dtype in self._others.items()}
        ages = {view.name: columns.age_seconds(view.name) for view in self.views}
        others |= {f"{view.name}_age_seconds": ages[view.name] for view in self.own}
        sequence_ids, versions = (read[name] for name in USER_SEQUENCE.feature_names)
        moment = np.array([columns.now_us], np.int64)
        seen = [_seen(columns, view, ages[view.name], read) for view in self.views]
        logged = _Logged(columns, self.views, seen)
        return [
            UserFeatures(
                user_id=user_id,
                columns={
                    REQUEST_TIMESTAMP: moment,
                    **dict(zip(self._numbers, numbers[:, row : row + 1], strict=True)),
                    **{name: array[row : row + 1] for name, array in others.items()},
                },
                sequence_id=sequence_ids[row],
                mapping_version=versions[row],
                fill_marker=columns.fill_marker,
                views=_LoggedRow(logged, row),
                seen=tuple(view[row] for view in seen),
            )
            for row, user_id in enumerate(columns.entities["user_id"])
        ]


def guard(user: UserFeatures, mapping_version: int) -> Refusal | None:
    """Return why a model of `mapping_version` must not predict from these features, or None if it may.

    If the fill marker matches and the user has no row of the mapping, the user is new: they are ranked without the
    collaborative score.
    """
    if user.fill_marker is None or not user.fill_marker.fill_complete:
        return Refusal.NOT_FILLED
    if user.fill_marker.mapping_version != mapping_version:
        return Refusal.OTHER_MAPPING
    if user.sequence_id is not None and user.mapping_version != mapping_version:
        return Refusal.OTHER_ROW
    return None


def _seen(
    columns: OnlineColumns, view: View, ages: npt.NDArray[np.float64], read: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """Return a view's status and event time for each user. A view is present if any of its values is."""
    known = [read[name] for name in view.feature_names if name in read]
    found = []
    for row, (event_us, age) in enumerate(zip(columns.event_us(view.name).tolist(), ages.tolist(), strict=True)):
        if event_us == ABSENT_US:
            status = FieldStatus.NOT_FOUND
        elif age != age:
            status = FieldStatus.OUTSIDE_MAX_AGE
        elif any(values[row] is not None for values in known) or _is_present(columns, view, row):
            status = FieldStatus.PRESENT
        else:
            status = FieldStatus.NULL_VALUE
        found.append({"view": view.name, "status": status.name, "event_timestamp": _moment(event_us)})
    return found


def _is_present(columns: OnlineColumns, view: View, row: int) -> bool:
    return any(columns.status(name)[row] == FieldStatus.PRESENT for name in view.feature_names)


class _Logged:
    """The read's rows as the served log stores them, decoded once for all users at first access."""

    def __init__(
        self, columns: OnlineColumns, views: Sequence[View], seen: Sequence[Sequence[Mapping[str, Any]]]
    ) -> None:
        self._columns = columns
        self.declared = views
        self._seen = seen

    @cached_property
    def rows(self) -> list[list[dict[str, Any]]]:
        read = self._columns.to_dict(full_names=True)
        views = [self._view(view, seen, read) for view, seen in zip(self.declared, self._seen, strict=True)]
        return [list(row) for row in zip(*views, strict=True)]

    def _view(
        self, view: View, seen: Sequence[Mapping[str, Any]], read: Mapping[str, Sequence[Any]]
    ) -> list[dict[str, Any]]:
        names = view.feature_names
        values = zip(*(read[f"{view.name}__{name}"] for name in names), strict=True)
        created = self._columns.created_us(view.name).tolist()
        return [
            {
                **one,
                "created_timestamp": _moment(created_us),
                "values": orjson.dumps(dict(zip(names, row, strict=True)), default=_listed).decode(),
            }
            for one, created_us, row in zip(seen, created, values, strict=True)
        ]


class _LoggedRow(Sequence[Mapping[str, Any]]):
    """One user's views in `_Logged`."""

    __slots__ = ("_logged", "_row")

    def __init__(self, logged: _Logged, row: int) -> None:
        self._logged = logged
        self._row = row

    def __len__(self) -> int:
        return len(self._logged.declared)

    @overload
    def __getitem__(self, place: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        return self._logged.rows[self._row][place]


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no value of a feature")


def _moment(us: int) -> datetime | None:
    return None if us == ABSENT_US else from_micros(us)
