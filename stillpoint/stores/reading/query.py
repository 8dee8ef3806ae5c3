"""The compiled form of a read: everything that does not depend on the entities.

A request's features are compiled once into groups of views that lie in the same Redis hashes: the command without its
key, where each feature lies in a reply, its type, and the names under which it is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.stores.reading.plan import ReadPlan, Selection, request_keys
from stillpoint.stores.reading.types import ABSENT_US
from stillpoint.stores.redis.hash_read import HashRead
from stillpoint.stores.redis.layout import Column, key_prefix
from stillpoint.stores.values.types import ValueType


@dataclass(frozen=True, slots=True)
class QueriedView:
    """One view in a query, the `number`-th of its group; its features begin at `start` in each reply of the group."""

    name: str
    shown_as: str
    features: tuple[Column, ...]
    start: int
    number: int
    max_age_us: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """Views that lie in the same hashes: the same join keys, given under the same names.

    A reply holds all features, view by view, then the views' event times, then (if `created`) their created times.
    """

    keys: tuple[tuple[Column, str | None], ...]
    prefix: bytes
    read: HashRead
    views: tuple[QueriedView, ...]
    columns: tuple[Column, ...]
    created: bool
    view_of: tuple[int, ...]
    types: dict[ValueType, tuple[int, ...]]
    max_age_us: npt.NDArray[np.int64]

    def needs(self, names: Sequence[str]) -> bool:
        return any(name in names for _, name in self.keys)

    def oldest_us(self, now_us: int) -> npt.NDArray[np.int64]:
        """Return the oldest event time that may be served of each view; an absent view's time is always older."""
        oldest: npt.NDArray[np.int64] = now_us - self.max_age_us
        oldest[self.max_age_us == ABSENT_US] = ABSENT_US + 1
        return oldest

    def outside(self, times: npt.NDArray[np.int64], now_us: int, latest_us: int) -> npt.NDArray[np.bool_]:
        """Return where event times (views, keys) may not be served: absent, past their time-to-live, or after `latest_us`."""
        gone: npt.NDArray[np.bool_] = (times < self.oldest_us(now_us)[:, None]) | (times > latest_us)
        return gone


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled read. `short` and `full` list the features in the service's order: name, group, position in a reply."""

    groups: tuple[Group, ...]
    join_keys: frozenset[str]
    short: tuple[tuple[str, int, int], ...]
    full: tuple[tuple[str, int, int], ...]
    views: dict[str, tuple[int, QueriedView]]
    found: dict[str, int] = field(default_factory=dict)
    """Names and full names to the position in `full`; -1 for a name that several views have."""


def compile_query(plan: ReadPlan, selections: Sequence[Selection], *, created: bool) -> Query:
    """Compile selections of a plan; with `created`, created times are fetched too."""
    grouped: dict[Any, list[tuple[int, Selection]]] = {}
    for order, selection in enumerate(selections):
        grouped.setdefault(request_keys(plan.view(selection.view), selection), []).append((order, selection))
    groups: list[Group] = []
    placed: list[tuple[int, int, QueriedView]] = []
    for keys, members in grouped.items():
        group = _group(plan, keys, [selection for _, selection in members], created)
        placed.extend((order, len(groups), view) for (order, _), view in zip(members, group.views, strict=True))
        groups.append(group)
    placed.sort(key=lambda item: item[0])
    short: list[tuple[str, int, int]] = []
    full: list[tuple[str, int, int]] = []
    found: dict[str, int] = {}
    for _, number, view in placed:
        for offset, column in enumerate(view.features):
            name, long = column.name, f"{view.shown_as}__{column.name}"
            found[long] = len(full)
            found[name] = -1 if name in found else len(full)
            short.append((name, number, view.start + offset))
            full.append((long, number, view.start + offset))
    return Query(
        groups=tuple(groups),
        join_keys=frozenset(name for group in groups for _, name in group.keys if name is not None),
        short=tuple(short),
        full=tuple(full),
        views={view.shown_as: (number, view) for _, number, view in placed},
        found=found,
    )


def _group(
    plan: ReadPlan, keys: tuple[tuple[Column, str | None], ...], selections: Sequence[Selection], created: bool
) -> Group:
    views: list[QueriedView] = []
    columns: list[Column] = []
    fields: list[bytes] = []
    for selection in selections:
        layout = plan.view(selection.view)
        held = {column.name: (column, place) for column, place in zip(layout.features, layout.fields, strict=True)}
        asked = [held[name] for name in selection.features]
        views.append(
            QueriedView(
                name=selection.view,
                shown_as=selection.shown_as,
                features=tuple(column for column, _ in asked),
                start=len(columns),
                number=len(views),
                max_age_us=layout.max_age_us,
            )
        )
        columns.extend(column for column, _ in asked)
        fields.extend(place for _, place in asked)
    layouts = [plan.view(selection.view) for selection in selections]
    fields.extend(layout.event_field for layout in layouts)
    if created:
        fields.extend(layout.created_field for layout in layouts)
    types: dict[ValueType, list[int]] = {}
    for place, column in enumerate(columns):
        types.setdefault(column.type, []).append(place)
    return Group(
        keys=keys,
        prefix=key_prefix([column.name for column, _ in keys]),
        read=HashRead(fields),
        views=tuple(views),
        columns=tuple(columns),
        created=created,
        view_of=tuple(view.number for view in views for _ in view.features),
        types={type: tuple(places) for type, places in types.items()},
        max_age_us=np.array([ABSENT_US if view.max_age_us is None else view.max_age_us for view in views], np.int64),
    )
