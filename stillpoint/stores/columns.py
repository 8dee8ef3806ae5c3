"""What came back from the online store, as columns: values, statuses, times and ages?

Nothing is decoded before it is asked for; number columns of all views are decoded as one numpy block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillpoint.errors import CorruptData, UnknownFeature
from stillpoint.stores.corrupt import corrupt_time, corrupt_value
from stillpoint.stores.layout import Column, decode_created, decode_time
from stillpoint.stores.values import ValueType, decode_value
from stillpoint.stores.values_columns import VECTORISED, decode_numbers, decode_times, decode_vectors

Number = TypeVar("Number", bound=np.generic)

ABSENT_US = -(2**63)
"""Stands for "no time" in integer columns of microseconds."""


class Mode(StrEnum):
    """`COMPAT` answers as Feast does, stale values included; `ENFORCE` serves only what is present and fresh."""

    COMPAT = "compat"
    ENFORCE = "enforce"


class Status(IntEnum):
    """Why a value is, or is not, there; Feast's numbers."""

    PRESENT = 1
    NULL_VALUE = 2
    NOT_FOUND = 3
    OUTSIDE_MAX_AGE = 4


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Which id mapping the project holds, and whether its fill is complete; both None/False if nobody wrote it."""

    mapping_version: int | None
    fill_complete: bool

    @classmethod
    def parse(cls, version: bytes | None, complete: bytes | None) -> "Sentinel":
        number = version.decode() if version else ""
        if number and not number.lstrip("-").isdigit():
            raise CorruptData(f"the sentinel's mapping_version is {number!r}; expected a whole number")
        return cls(int(number) if number else None, complete == b"1")


@dataclass(frozen=True, slots=True)
class ViewAsked:
    """One view in a query: its features lie at `start` in each reply, then the event time, then the created time."""

    order: int
    name: str
    shown_as: str
    features: tuple[Column, ...]
    start: int
    max_age_us: int | None
    created: bool


@dataclass(frozen=True, slots=True)
class Fetched:
    """Replies of one group of views: `width` fields for each key, flat; `rows` places them (None: one row per key)."""

    views: tuple[ViewAsked, ...]
    keys: list[bytes]
    rows: list[int] | None
    flat: list[bytes | None]
    width: int

    def stored(self, position: int) -> list[bytes | None]:
        return self.flat[position :: self.width]


@dataclass(frozen=True, slots=True)
class Cell:
    """One feature of one entity; `value` is None unless the status is PRESENT (in compat mode it may be None then too)."""

    value: Any
    status: Status
    event_us: int | None
    age_seconds: float | None


class OnlineColumns:
    """The answer of one read; columns are in the order of the service, rows in the order of the request."""

    def __init__(
        self,
        entities: dict[str, Sequence[Any]],
        rows: int,
        fetched: Sequence[Fetched],
        *,
        sentinel: Sentinel | None,
        now_us: int,
        mode: Mode,
    ) -> None:
        self.entities = entities
        self.rows = rows
        self.sentinel = sentinel
        self.now_us = now_us
        self.mode = mode
        self._fetched = fetched
        self._views: dict[str, tuple[Fetched, ViewAsked]] = {}
        placed = sorted(((view.order, part, view) for part in fetched for view in part.views), key=lambda item: item[0])
        self._features: list[tuple[str, str, Fetched, ViewAsked, int]] = []
        for _, part, view in placed:
            self._views[view.shown_as] = (part, view)
            for number, column in enumerate(view.features):
                self._features.append((column.name, f"{view.shown_as}__{column.name}", part, view, number))
        self._found: dict[str, int] = {}
        self._blocks: dict[tuple[int, ValueType], tuple[dict[int, int], npt.NDArray[Any], npt.NDArray[np.bool_]]] = {}
        self._kept_gone: dict[str, tuple[npt.NDArray[np.bool_], list[int]]] = {}
        self._clocks: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]] = {}

    @property
    def names(self) -> list[str]:
        """Feature names in the service's order."""
        return [item[0] for item in self._features]

    @property
    def full_names(self) -> list[str]:
        """Feature names as `view__feature`, in the service's order."""
        return [item[1] for item in self._features]

    @property
    def views(self) -> list[str]:
        return list(self._views)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a feature as an array for a model, by its name or `view__feature`.

        Numbers and flags are float64 with NaN, vectors of one length (n, length) with NaN rows, everything else objects
        with None, wherever the value is null or withheld. Whole numbers beyond 2**53 lose digits: see `values`.
        """
        number = self._index(name)
        _, _, part, view, place = self._features[number]
        type = view.features[place].type
        if type in VECTORISED:
            values, missing = self._numbers(part, view, place)
            result = values.astype(np.float64)
            result[missing] = np.nan
            if self.mode is Mode.ENFORCE:
                result[self._gone(view.shown_as)[1]] = np.nan
            return self._spread(result, part)
        if type in (ValueType.FLOAT_LIST, ValueType.DOUBLE_LIST):
            vectors = decode_vectors(type, part.stored(view.start + place))
            if vectors is not None:
                withheld = self._gone(view.shown_as)[1] if self.mode is Mode.ENFORCE else []
                if withheld:
                    vectors = vectors.copy()
                    vectors[withheld] = np.nan
                return self._spread(vectors, part)
        result = np.empty(len(part.keys), object)
        result[:] = [None] * len(part.keys)
        for index, value in enumerate(self._python(part, view, place)):
            result[index] = value
        return self._spread(result, part)

    def values(self, name: str) -> list[Any]:
        """Return a feature's exact Python values, as Feast's `to_dict` has them; None where null or withheld."""
        _, _, part, view, place = self._features[self._index(name)]
        values = self._python(part, view, place)
        return values if part.rows is None else [values[row] for row in part.rows]

    def status(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the `Status` of each row. In compat mode all are PRESENT, as in Feast with Redis."""
        _, _, part, view, place = self._features[self._index(name)]
        return self._spread(self._statuses(part, view, place), part)

    def event_us(self, view: str) -> npt.NDArray[np.int64]:
        """Return a view's event times in microseconds since 1970; `ABSENT_US` where the view does not hold the entity."""
        part, _ = self._view(view)
        return self._spread(self._event_times(view), part)

    def created_us(self, view: str) -> npt.NDArray[np.int64]:
        """Return when a view's values were learned; `ABSENT_US` where that is not known (written by stock Feast)."""
        part, asked = self._view(view)
        place = asked.start + len(asked.features)
        if not asked.created:
            return np.full(self.rows, ABSENT_US, np.int64)
        pairs = zip(part.stored(place + 1), part.stored(place), strict=True)
        known = [decode_created(created, event) for created, event in pairs]
        return self._spread(np.array([ABSENT_US if item is None else item for item in known], np.int64), part)

    def age_seconds(self, view: str) -> npt.NDArray[np.float64]:
        """Return the age of a view's values at the read's moment; NaN unless it is PRESENT (fresh, in any mode)."""
        part, _ = self._view(view)
        events = self._event_times(view)
        ages: npt.NDArray[np.float64] = (self.now_us - np.where(events == ABSENT_US, 0, events)) / 1e6
        ages[(events == ABSENT_US) | self._expired(view)] = np.nan
        return self._spread(ages, part)

    def to_dict(self, *, full_names: bool = False) -> dict[str, list[Any]]:
        """Return join keys and features as lists, as Feast's `to_dict` does."""
        result: dict[str, list[Any]] = {name: list(values) for name, values in self.entities.items()}
        done: dict[tuple[int, int], list[Any]] = {}
        for part in self._fetched:
            for type in {column.type for view in part.views for column in view.features} & set(VECTORISED):
                self._lists(part, type, done)
        for short, full, part, view, place in self._features:
            values = done.get((id(part), view.start + place))
            if values is None:
                values = self._python(part, view, place)
            result[full if full_names else short] = values if part.rows is None else [values[row] for row in part.rows]
        return result

    def to_dicts(self, *, full_names: bool = False) -> list[dict[str, Cell]]:
        """Return one dict per row: feature name to value, status, event time and age."""
        rows: list[dict[str, Cell]] = [{} for _ in range(self.rows)]
        for short, full, _, view, _ in self._features:
            name = full if full_names else short
            events, statuses = self.event_us(view.shown_as).tolist(), self.status(full).tolist()
            for row, value in enumerate(self.values(full)):
                event = None if events[row] == ABSENT_US else events[row]
                age = None if event is None else (self.now_us - event) / 1e6
                rows[row][name] = Cell(value, Status(statuses[row]), event, age)
        return rows

    def to_arrow(self, *, full_names: bool = False) -> Any:
        """Return join keys and features as an Arrow table; types are taken from the values."""
        return pa.table(
            {name: pa.array(_arrow_ready(values)) for name, values in self.to_dict(full_names=full_names).items()}
        )

    def is_plain(self, place: int) -> bool:
        """Say whether a feature's Python values are JSON as they stand: whole numbers, flags, text."""
        _, _, _, view, number = self._features[place]
        return view.features[number].type in _PLAIN

    def stored(self, place: int) -> tuple[str, str, list[bytes], list[bytes | None], list[int] | None]:
        """Return view, feature, keys, stored bytes per key, and which key each row has (None: its own)."""
        _, _, part, view, number = self._features[place]
        return view.name, view.features[number].name, part.keys, part.stored(view.start + number), part.rows

    # --- how it is decoded ---

    def _index(self, name: str) -> int:
        if not self._found:
            for number, (short, full, *_) in enumerate(self._features):
                self._found[full] = number
                self._found[short] = -1 if short in self._found and self._found[short] != number else number
        number = self._found.get(name, -2)
        if number < 0:
            why = "was not read" if number == -2 else "is in several views; ask for view__feature"
            raise UnknownFeature(f"feature {name!r} {why}; read were {', '.join(self.full_names)}")
        return number

    def _view(self, name: str) -> tuple[Fetched, ViewAsked]:
        try:
            return self._views[name]
        except KeyError:
            raise UnknownFeature(f"view {name!r} was not read; read were {', '.join(self._views)}") from None

    def _spread(self, values: npt.NDArray[Number], part: Fetched) -> npt.NDArray[Number]:
        placed: npt.NDArray[Number] = values if part.rows is None else values[part.rows]
        return placed

    def _event_times(self, shown_as: str) -> npt.NDArray[np.int64]:
        return self._clock(shown_as)[0]

    def _expired(self, shown_as: str) -> npt.NDArray[np.bool_]:
        return self._clock(shown_as)[1]

    def _clock(self, shown_as: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return a view's event times, and which are past its time-to-live; decoded for all views of its group at once."""
        if shown_as not in self._clocks:
            part, _ = self._views[shown_as]
            events, expired = self._clocks_of(part)
            for number, view in enumerate(part.views):
                self._clocks[view.shown_as] = events[number], expired[number]
        return self._clocks[shown_as]

    def _clocks_of(self, part: Fetched) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        stored: list[bytes | None] = []
        for view in part.views:
            stored += part.stored(view.start + len(view.features))
        try:
            events = decode_times(stored, ABSENT_US).reshape(len(part.views), -1)
        except CorruptData:
            for view in part.views:
                for key, value in zip(part.keys, part.stored(view.start + len(view.features)), strict=True):
                    _check_time(view.name, key, value)
            raise
        never = np.iinfo(np.int64).min
        oldest = [never if view.max_age_us is None else self.now_us - view.max_age_us for view in part.views]
        return events, (events != ABSENT_US) & (events < np.array(oldest, np.int64)[:, None])

    def _withheld(self, shown_as: str, part: Fetched) -> npt.NDArray[np.bool_]:
        if self.mode is Mode.COMPAT:
            return np.zeros(len(part.keys), np.bool_)
        return self._gone(shown_as)[0]

    def _gone(self, shown_as: str) -> tuple[npt.NDArray[np.bool_], list[int]]:
        """Return which of a view's rows are missing or past their time-to-live, as a mask and by number; kept."""
        held = self._kept_gone.get(shown_as)
        if held is None:
            mask = self._expired(shown_as) | (self._event_times(shown_as) == ABSENT_US)
            held = self._kept_gone[shown_as] = mask, np.flatnonzero(mask).tolist()
        return held

    def _statuses(self, part: Fetched, view: ViewAsked, place: int) -> npt.NDArray[np.uint8]:
        statuses = np.full(len(part.keys), Status.PRESENT, np.uint8)
        if self.mode is Mode.COMPAT:
            return statuses
        statuses[[not value for value in part.stored(view.start + place)]] = Status.NULL_VALUE
        statuses[self._expired(view.shown_as)] = Status.OUTSIDE_MAX_AGE
        statuses[self._event_times(view.shown_as) == ABSENT_US] = Status.NOT_FOUND
        return statuses

    def _numbers(self, part: Fetched, view: ViewAsked, place: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        type = view.features[place].type
        number, values, missing = self._block(part, type)
        row = number[view.start + place]
        return values[row], missing[row]

    def _block(self, part: Fetched, type: ValueType) -> tuple[dict[int, int], npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Decode all columns of a type of a group at once: (columns, keys)."""
        block = self._blocks.get((id(part), type))
        if block is None:
            places = [
                view.start + number
                for view in part.views
                for number, column in enumerate(view.features)
                if column.type is type
            ]
            count = len(part.keys)
            stored: list[bytes | None] = []
            for place in places:
                stored += part.flat[place :: part.width]
            try:
                values, missing = decode_numbers(type, stored)
            except CorruptData:
                self._name_the_corrupt(part, type)
                raise
            block = (
                {place: number for number, place in enumerate(places)},
                values.reshape(len(places), count),
                missing.reshape(len(places), count),
            )
            self._blocks[id(part), type] = block
        return block

    def _lists(self, part: Fetched, type: ValueType, done: dict[tuple[int, int], list[Any]]) -> None:
        try:
            places, values, missing = self._block(part, type)
        except CorruptData:
            if self.mode is Mode.ENFORCE:
                raise
            return  # one by one: Feast shows a value of another type as it is
        lists = values.tolist()
        gone = missing
        if self.mode is Mode.ENFORCE:
            withheld = np.array([self._withheld(view.shown_as, part) for view in part.views])
            owner = [
                number for number, view in enumerate(part.views) for column in view.features if column.type is type
            ]
            gone = missing | withheld[owner]
        for number in np.flatnonzero(gone.any(axis=1)).tolist():
            pairs = zip(lists[number], gone[number].tolist(), strict=True)
            lists[number] = [None if no else value for value, no in pairs]
        for place, number in places.items():
            done[id(part), place] = lists[number]

    def _python(self, part: Fetched, view: ViewAsked, place: int) -> list[Any]:
        column = view.features[place]
        values = []
        for key, stored in zip(part.keys, part.stored(view.start + place), strict=True):
            try:
                values.append(decode_value(stored, column.type) if stored else None)
            except (CorruptData, ValueError, ArithmeticError, OverflowError, OSError) as error:
                raise corrupt_value(view.name, column.name, key, str(error)) from None
        if self.mode is Mode.ENFORCE:
            for row in self._gone(view.shown_as)[1]:
                values[row] = None
        return values

    def _name_the_corrupt(self, part: Fetched, type: ValueType) -> None:
        for view in part.views:
            for place, column in enumerate(view.features):
                if column.type is not type:
                    continue
                for key, stored in zip(part.keys, part.stored(view.start + place), strict=True):
                    try:
                        decode_numbers(type, [stored])
                    except CorruptData:
                        raise corrupt_value(
                            view.name, column.name, key, f"the stored bytes {stored!r} are not of type {type}"
                        ) from None


_PLAIN = {ValueType.INT32, ValueType.INT64, ValueType.BOOL, ValueType.STRING}


def _check_time(view: str, key: bytes, stored: bytes | None) -> None:
    try:
        if stored is not None:
            decode_time(stored)
    except CorruptData:
        raise corrupt_time(view, key) from None


def _arrow_ready(values: list[Any]) -> list[Any]:
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset, list)):
        return [_plain(item) for item in value]
    return str(value) if type(value).__name__ == "UUID" else value
