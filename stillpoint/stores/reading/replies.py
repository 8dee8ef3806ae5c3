"""Decodes the replies of one group: values, times, statuses, and which values are withheld.

Decoding happens at first use, for all columns of a type together: a few values as Python objects, many as a numpy block.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stillpoint.errors import CorruptData
from stillpoint.stores.reading.query import Group
from stillpoint.stores.reading.types import ABSENT_US, ANY_TIME_US, FieldStatus, Mode
from stillpoint.stores.redis.corrupt import corrupt_time, corrupt_value
from stillpoint.stores.redis.layout import decode_created
from stillpoint.stores.values.columns import VECTORISED, decode_numbers, decode_times, decode_vectors
from stillpoint.stores.values.few import FEW, QUICK, decode_few
from stillpoint.stores.values.python import decode_declared, decode_value
from stillpoint.stores.values.times import decode_time
from stillpoint.stores.values.types import ValueType

Number = TypeVar("Number", bound=np.generic)
Block = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]

UNREADABLE = (CorruptData, ValueError, ArithmeticError, OSError)
"""The errors that decoding invalid bytes can raise."""


class GroupReplies:
    """Replies of one group: `flat` holds `width` fields per key; `rows` is the key number of each row (None: one key per row)."""

    __slots__ = (
        "_blocks",
        "_events",
        "_floats",
        "_foreign",
        "_gone",
        "_outside",
        "_values",
        "flat",
        "group",
        "keys",
        "latest_us",
        "mode",
        "now_us",
        "rows",
    )

    def __init__(
        self,
        group: Group,
        keys: list[bytes],
        rows: list[int] | None,
        flat: Sequence[bytes | None],
        now_us: int,
        mode: Mode,
        latest_us: int = ANY_TIME_US,
    ) -> None:
        """`latest_us` is the latest event time that is believed; a later one is of the future."""
        self.group = group
        self.keys = keys
        self.rows = rows
        self.flat = flat
        self.now_us = now_us
        self.mode = mode
        self.latest_us = latest_us
        self._values: list[list[Any] | None] = [None] * len(group.columns)
        self._floats: dict[ValueType, dict[int, npt.NDArray[np.float64]]] = {}
        self._blocks: dict[ValueType, Block] = {}
        self._events: npt.NDArray[np.int64] | None = None
        self._outside: npt.NDArray[np.bool_] | None = None
        self._gone: list[list[int]] | None = None
        self._foreign: set[ValueType] = set()

    def stored(self, place: int) -> Sequence[bytes | None]:
        """Return one field's stored bytes of each key."""
        return self.flat[place :: len(self.group.read.fields)]

    def spread(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return one value per row from one per key."""
        placed: npt.NDArray[Number] = values if self.rows is None else values[self.rows]
        return placed

    def values(self, place: int) -> list[Any]:
        """Return a feature's exact Python value of each key; None where null or withheld."""
        values = self._values[place]
        return self._decode(self.group.columns[place].type, place) if values is None else values

    def simple(self, place: int) -> list[Any] | None:
        """Return `values` of a numeric, Boolean or text feature; None for other types, or if another type is stored."""
        type = self.group.columns[place].type
        if type not in QUICK:
            return None
        values = self.values(place)
        return None if type in self._foreign else values

    def all_values(self) -> list[list[Any]]:
        """Return `values` of every place."""
        return [self.values(place) if held is None else held for place, held in enumerate(self._values)]

    def column(self, place: int) -> npt.NDArray[Any]:
        """Return a feature of each key as an array for a model: floats with NaN, float32 vectors with NaN rows, or objects.

        Lists of float64 are objects with None, as other lists: they need not have one length.
        """
        type = self.group.columns[place].type
        if type in VECTORISED:
            return self._numbers(type)[place].copy()
        if type is ValueType.FLOAT_LIST:
            vectors = decode_vectors(self.stored(place))
            if vectors is not None:
                withheld = self.withheld(self.group.view_of[place])
                if withheld:
                    vectors = vectors.copy()
                    vectors[withheld] = np.nan
                return vectors
        result = np.empty(len(self.keys), object)
        result[:] = [None] * len(self.keys)
        for index, value in enumerate(self.values(place)):
            result[index] = value
        return result

    def statuses(self, place: int) -> npt.NDArray[np.uint8]:
        """Return the `FieldStatus` of a feature for each key; all PRESENT in compat mode."""
        statuses = np.full(len(self.keys), FieldStatus.PRESENT, np.uint8)
        if self.mode is Mode.ENFORCE:
            view = self.group.view_of[place]
            statuses[[not value for value in self.stored(place)]] = FieldStatus.NULL_VALUE
            statuses[self.outside(view)] = FieldStatus.OUTSIDE_MAX_AGE
            statuses[self.events(view) == ABSENT_US] = FieldStatus.NOT_FOUND
        return statuses

    def events(self, view: int) -> npt.NDArray[np.int64]:
        """Return a view's event times in microseconds, `ABSENT_US` where it does not hold the entity."""
        times: npt.NDArray[np.int64] = self._event_times()[view]
        return times

    def created(self, view: int) -> npt.NDArray[np.int64]:
        """Return a view's created times in microseconds, `ABSENT_US` where unknown or not fetched."""
        group = self.group
        if not group.created:
            return np.full(len(self.keys), ABSENT_US, np.int64)
        stamp = len(group.columns) + view
        pairs = zip(self.stored(stamp + len(group.views)), self.stored(stamp), strict=True)
        known = [decode_created(created, event) for created, event in pairs]
        return np.array([ABSENT_US if item is None else item for item in known], np.int64)

    def outside(self, view: int) -> npt.NDArray[np.bool_]:
        """Return which keys have no value of a view that may be served: none, one past its time-to-live, or of the future."""
        outside: npt.NDArray[np.bool_] = self._all_outside()[view]
        return outside

    def withheld(self, view: int) -> Sequence[int]:
        """Return the keys, by number, whose values of a view are not shown: those `outside`; none in compat mode."""
        if self.mode is Mode.COMPAT:
            return ()
        if self._gone is None:
            gone = self._all_outside()
            self._gone = [np.flatnonzero(row).tolist() for row in gone] if gone.any() else [[]] * len(gone)
        return self._gone[view]

    # --- how it is decoded ---

    def _decode(self, type: ValueType, place: int) -> list[Any]:
        if type not in QUICK:
            return self._keep(place, self._alone(place))
        places = self.group.types[type]
        try:
            decoded = self._lists(type, places)
        except CorruptData:
            if self.mode is Mode.ENFORCE:
                raise
            self._foreign.add(type)
            decoded = [self._alone(one) for one in places]  # Feast shows a value of another type as it is
        for one, values in zip(places, decoded, strict=True):
            self._keep(one, values)
        return self._values[place] or []

    def _keep(self, place: int, values: list[Any]) -> list[Any]:
        for key in self.withheld(self.group.view_of[place]):
            values[key] = None
        self._values[place] = values
        return values

    def _alone(self, place: int) -> list[Any]:
        type = self.group.columns[place].type
        decode = decode_declared if self.mode is Mode.ENFORCE else decode_value
        stored = self.stored(place)
        try:
            return [decode(data, type) if data else None for data in stored]
        except UNREADABLE:
            for key, data in zip(self.keys, stored, strict=True):
                try:
                    decode(data, type)
                except UNREADABLE as error:
                    raise self._corrupt(place, key, str(error)) from None
            raise

    def _lists(self, type: ValueType, places: Sequence[int]) -> list[list[Any]]:
        """Return the Python values of all columns of a type, decoded strictly."""
        count = len(self.keys)
        if type in VECTORISED and len(places) * count > FEW:
            values, missing = self._block(type)
            lists: list[list[Any]] = values.tolist()
            for number in np.flatnonzero(missing.any(axis=1)).tolist():
                for key in np.flatnonzero(missing[number]).tolist():
                    lists[number][key] = None
            return lists
        try:
            flat = decode_few(type, self._column_by_column(places))
        except UNREADABLE:
            self._name_the_corrupt(type)
            raise
        if count == 1:
            return [[value] for value in flat]
        return [flat[number * count : (number + 1) * count] for number in range(len(places))]

    def _numbers(self, type: ValueType) -> dict[int, npt.NDArray[np.float64]]:
        """Return all columns of a number type as float64, NaN where null or withheld."""
        held = self._floats.get(type)
        if held is None:
            places = self.group.types[type]
            if len(places) * len(self.keys) > FEW:
                values, missing = self._block(type)
                block = values.astype(np.float64)
                block[missing] = np.nan
            else:
                block = np.array(self._lists(type, places), np.float64)
            held = self._floats[type] = dict(zip(places, block, strict=True))
            for place, row in held.items():
                withheld = self.withheld(self.group.view_of[place])
                if withheld:
                    row[withheld] = np.nan
        return held

    def _block(self, type: ValueType) -> Block:
        """Decode all columns of a number type: (columns, keys), and which are missing."""
        block = self._blocks.get(type)
        if block is None:
            places = self.group.types[type]
            try:
                values, missing = decode_numbers(type, self._column_by_column(places))
            except CorruptData:
                self._name_the_corrupt(type)
                raise
            shape = (len(places), len(self.keys))
            block = self._blocks[type] = values.reshape(shape), missing.reshape(shape)
        return block

    def _column_by_column(self, places: Sequence[int]) -> list[bytes | None]:
        flat, width = self.flat, len(self.group.read.fields)
        if len(flat) == width:
            return [flat[place] for place in places]
        stored: list[bytes | None] = []
        for place in places:
            stored += flat[place::width]
        return stored

    def _event_times(self) -> npt.NDArray[np.int64]:
        if self._events is None:
            start, views = len(self.group.columns), self.group.views
            try:
                times = decode_times(self._column_by_column(range(start, start + len(views))), ABSENT_US)
            except CorruptData:
                for place, view in enumerate(views, start):
                    for key, stored in zip(self.keys, self.stored(place), strict=True):
                        _check_time(view.name, key, stored)
                raise
            self._events = times.reshape(len(views), -1)
        return self._events

    def _all_outside(self) -> npt.NDArray[np.bool_]:
        if self._outside is None:
            self._outside = self.group.outside(self._event_times(), self.now_us, self.latest_us)
        return self._outside

    def _name_the_corrupt(self, type: ValueType) -> None:
        for place in self.group.types[type]:
            for key, stored in zip(self.keys, self.stored(place), strict=True):
                try:
                    decode_few(type, [stored])
                except UNREADABLE:
                    raise self._corrupt(place, key, f"the stored bytes {stored!r} are not of type {type}") from None

    def _corrupt(self, place: int, key: bytes, why: str) -> CorruptData:
        view = self.group.views[self.group.view_of[place]]
        return corrupt_value(view.name, self.group.columns[place].name, key, why)


def _check_time(view: str, key: bytes, stored: bytes | None) -> None:
    try:
        if stored is not None:
            decode_time(stored)
    except CorruptData:
        raise corrupt_time(view, key) from None
