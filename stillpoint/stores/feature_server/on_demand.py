"""Splits a request's on-demand features into features to read and features to compute, and computes the latter.

Only registered pure functions of this code base are run, found by the name in the read plan; code stored in a Feast
registry is never run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillpoint.errors import InvalidInput, PlanRefused, UnknownFeature
from stillpoint.excerpt import excerpt
from stillpoint.stores.reading.columns import OnlineColumns
from stillpoint.stores.reading.plan import OnDemand, ReadPlan, Selection

OnDemandFunction = Callable[[Mapping[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]
"""Columns by input name, all n rows long, to columns by feature name."""


@dataclass(frozen=True, slots=True)
class RequestedOnDemandView:
    """Requested features of one on-demand view, in order, and the function that gives them."""

    view: OnDemand
    features: tuple[str, ...]
    shown_as: str
    function: OnDemandFunction

    def values(self, columns: OnlineColumns, moment: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        """Return the features' values, None where missing. `moment` holds the request's own columns."""
        rows: dict[str, npt.NDArray[Any]] = {name: np.asarray(given) for name, given in moment.items()}
        for source in self.view.sources:
            rows |= {name: columns.column(f"{source.shown_as}__{name}") for name in source.features}
        found = self.function(rows)
        return {
            name: [None if value != value else value for value in np.asarray(found[name]).tolist()]
            for name in self.features
        }


def computed_of(
    plan: ReadPlan, features: str | Sequence[str], functions: Mapping[str, OnDemandFunction]
) -> tuple[RequestedOnDemandView, ...]:
    """Return the on-demand features of a service (by name) or of a list of `view:feature`.

    Raises:
        PlanRefused: a view's function is not a registered one.
        UnknownFeature: the view has no such feature.
    """
    views = {view.name: view for view in plan.on_demand}
    if isinstance(features, str):
        parts = plan.on_demand_services.get(features, ())
    else:
        names: dict[str, list[str]] = {}
        for reference in features:
            view, _, feature = reference.partition(":")
            if view in views:
                names.setdefault(view, []).append(feature)
        parts = tuple(Selection(view, tuple(dict.fromkeys(own)), view) for view, own in names.items())
    return tuple(_computed(views[part.view], part, functions) for part in parts)


def sources_of(computed: Sequence[RequestedOnDemandView], shown: Sequence[Selection]) -> tuple[Selection, ...]:
    """Return the stored features needed to show `shown` and to compute `computed`, each view once."""
    wanted: dict[tuple[Any, ...], list[str]] = {}
    for part in (*shown, *(source for one in computed for source in one.view.sources)):
        features = wanted.setdefault((part.view, part.shown_as, part.join_keys), [])
        features.extend(name for name in part.features if name not in features)
    return tuple(Selection(view, tuple(names), shown_as, keys) for (view, shown_as, keys), names in wanted.items())


def moment_of(computed: Sequence[RequestedOnDemandView], entities: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the request's own columns that on-demand views need.

    Raises:
        InvalidInput: a column is missing, or holds a value that is not a finite number.
    """
    found: dict[str, list[Any]] = {}
    for one in computed:
        for column in one.view.request:
            if column.name not in entities:
                raise InvalidInput(
                    f"entities: {column.name} is missing; the on-demand feature view {one.view.name} computes with it"
                )
            for row, value in enumerate(entities[column.name]):
                if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                    raise InvalidInput(f"entities.{column.name}: value {row} is {excerpt(value)}; expected a number")
            found[column.name] = entities[column.name]
    return found


def _computed(view: OnDemand, part: Selection, functions: Mapping[str, OnDemandFunction]) -> RequestedOnDemandView:
    function = functions.get(view.function or "")
    if function is None:
        whose = "a foreign function" if view.function is None else f"an unknown function, {view.function}"
        raise PlanRefused(
            f"features: {view.name} is an on-demand feature view with {whose}; this server runs only functions of its own: "
            "ask for the view's sources and compute it in the client"
        )
    known = [column.name for column in view.features]
    for name in part.features:
        if name not in known:
            raise UnknownFeature(
                f"on-demand feature view {view.name!r} has no feature {name!r}; it has {', '.join(known)}"
            )
    return RequestedOnDemandView(view, part.features, part.shown_as, function)
