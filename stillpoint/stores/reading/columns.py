"""The answer of an online read as columns: values, statuses, times and ages of each row.

Columns are in the order of the service, rows in the order of the request. `replies.py` decodes columns when they are used.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stillpoint.errors import UnknownFeature
from stillpoint.stores.reading.query import QueriedView, Query
from stillpoint.stores.reading.replies import GroupReplies
from stillpoint.stores.reading.types import ABSENT_US, Cell, FieldStatus, FillMarker, Mode
from stillpoint.stores.values.types import ValueType


class OnlineColumns:
    """The answer of one read; columns are in the order of the service, rows in the order of the request."""

    __slots__ = ("_fetched", "_query", "entities", "fill_marker", "mode", "now_us", "rows")

    def __init__(
        self,
        query: Query,
        entities: dict[str, Sequence[Any]],
        rows: int,
        fetched: Sequence[GroupReplies],
        *,
        fill_marker: FillMarker | None,
        now_us: int,
        mode: Mode,
    ) -> None:
        self._query = query
        self._fetched = fetched
        self.entities = entities
        self.rows = rows
        self.fill_marker = fill_marker
        self.now_us = now_us
        self.mode = mode

    @property
    def names(self) -> list[str]:
        """Feature names in the service's order."""
        return [name for name, _, _ in self._query.short]

    @property
    def full_names(self) -> list[str]:
        """Feature names as `view__feature`, in the service's order."""
        return [name for name, _, _ in self._query.full]

    @property
    def views(self) -> list[str]:
        return list(self._query.views)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a feature as an array for a model, by its name or `view__feature`.

        Numbers and flags are float64 with NaN, vectors of one length (n, length) with NaN rows, everything else objects
        with None, wherever the value is null or withheld. Whole numbers beyond 2**53 lose digits: see `values`.
        """
        part, place = self._place(name)
        return part.spread(part.column(place))

    def values(self, name: str) -> list[Any]:
        """Return a feature's exact Python values, as Feast's `to_dict` has them; None where null or withheld."""
        part, place = self._place(name)
        values = part.values(place)
        return list(values) if part.rows is None else [values[row] for row in part.rows]

    def status(self, name: str) -> npt.NDArray[np.uint8]:
        """Return the `FieldStatus` of each row. In compat mode all are PRESENT, as in Feast with Redis."""
        part, place = self._place(name)
        return part.spread(part.statuses(place))

    def event_us(self, view: str) -> npt.NDArray[np.int64]:
        """Return a view's event times in microseconds since 1970; `ABSENT_US` where the view does not hold the entity."""
        part, asked = self._view(view)
        return part.spread(part.events(asked.number))

    def created_us(self, view: str) -> npt.NDArray[np.int64]:
        """Return a view's created times in microseconds since 1970; `ABSENT_US` where unknown (written by stock Feast)."""
        part, asked = self._view(view)
        return part.spread(part.created(asked.number))

    def age_seconds(self, view: str) -> npt.NDArray[np.float64]:
        """Return the age of a view's values at the read's moment; NaN unless it is PRESENT (fresh, in any mode)."""
        part, asked = self._view(view)
        events = part.events(asked.number)
        outside = part.outside(asked.number)
        ages: npt.NDArray[np.float64] = (self.now_us - np.where(outside, 0, events)) / 1e6
        ages[outside] = np.nan
        return part.spread(ages)

    def to_dict(self, *, full_names: bool = False) -> dict[str, list[Any]]:
        """Return join keys and features as lists, as Feast's `to_dict` does."""
        result: dict[str, list[Any]] = {name: list(values) for name, values in self.entities.items()}
        held = [part.all_values() for part in self._fetched]
        for name, number, place in self._query.full if full_names else self._query.short:
            rows, values = self._fetched[number].rows, held[number][place]
            result[name] = values[:] if rows is None else [values[row] for row in rows]
        return result

    def to_dicts(self, *, full_names: bool = False) -> list[dict[str, Cell]]:
        """Return one dict per row: feature name to value, status, event time and age."""
        rows: list[dict[str, Cell]] = [{} for _ in range(self.rows)]
        for (short, number, place), (full, _, _) in zip(self._query.short, self._query.full, strict=True):
            part = self._fetched[number]
            name = full if full_names else short
            events = part.spread(part.events(part.group.view_of[place])).tolist()
            statuses = part.spread(part.statuses(place)).tolist()
            for row, value in enumerate(self.values(full)):
                event = None if events[row] == ABSENT_US else events[row]
                age = None if event is None else (self.now_us - event) / 1e6
                rows[row][name] = Cell(value, FieldStatus(statuses[row]), event, age)
        return rows

    def to_arrow(self, *, full_names: bool = False) -> Any:
        """Return join keys and features as an Arrow table; types are taken from the values."""
        return pa.table(
            {name: pa.array(_arrow_ready(values)) for name, values in self.to_dict(full_names=full_names).items()}
        )

    def simple(self, position: int) -> tuple[ValueType, list[Any]] | None:
        """Return type and values of a numeric, Boolean or text feature; None for other types, and if another type than the
        declared one is stored. `position` is the one in `full_names`."""
        _, number, place = self._query.full[position]
        part = self._fetched[number]
        type = part.group.columns[place].type
        values = part.simple(place)
        if values is None:
            return None
        return type, values if part.rows is None else [values[row] for row in part.rows]

    def stored(self, position: int) -> tuple[str, str, list[bytes], Sequence[bytes | None], list[int] | None]:
        """Return view, feature, keys, stored bytes per key, and which key each row has (None: its own)."""
        _, number, place = self._query.full[position]
        part = self._fetched[number]
        view = part.group.views[part.group.view_of[place]]
        return view.name, part.group.columns[place].name, part.keys, part.stored(place), part.rows

    def _place(self, name: str) -> tuple[GroupReplies, int]:
        position = self._query.found.get(name, -2)
        if position < 0:
            why = "was not read" if position == -2 else "is in several views; ask for view__feature"
            raise UnknownFeature(f"feature {name!r} {why}; read were {', '.join(self.full_names)}")
        _, number, place = self._query.full[position]
        return self._fetched[number], place

    def _view(self, name: str) -> tuple[GroupReplies, QueriedView]:
        try:
            number, asked = self._query.views[name]
        except KeyError:
            raise UnknownFeature(f"view {name!r} was not read; read were {', '.join(self.views)}") from None
        return self._fetched[number], asked


def _arrow_ready(values: list[Any]) -> list[Any]:
    return [_plain(value) for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset, list)):
        return [_plain(item) for item in value]
    return str(value) if type(value).__name__ == "UUID" else value
