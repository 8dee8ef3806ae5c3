"""All that is declared of a project's features: the app's views, the platform's id mapping, and request-time features.

Whoever stores, checks, joins, reads or ranks takes this from the loaded app. Features of the mapping never train a model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from stillpoint.app.entities import Entity, user
from stillpoint.app.recommendations import REQUEST_TIMESTAMP, Columns, RequestTimeFeature, Values
from stillpoint.app.records import Feature, Origin, View
from stillpoint.dtypes import DType
from stillpoint.errors import InvalidInput

RANKER_SERVICE = "ranker_v1"
"""The feature service that models are trained on."""

USER_SEQUENCE = View(
    name="user_sequence",
    entity=user,
    origin=Origin.MAPPING,
    ttl=None,
    description="The user's row in one release's collaborative filter; never an input of training.",
    features=(
        Feature(
            name="sequence_id", dtype=DType.INT64, unit="index", minimum=0, description="Row of the user's factors."
        ),
        Feature(
            name="mapping_version",
            dtype=DType.INT64,
            unit="version",
            minimum=1,
            description="The mapping that gave the row.",
        ),
    ),
)
"""The platform's own view: which row of a release's factors is the user's."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """An app's features. `item` is the entity that is recommended, None for an app that recommends nothing."""

    views: tuple[View, ...]
    computed: tuple[RequestTimeFeature, ...] = ()
    item: Entity | None = None

    @cached_property
    def streamed(self) -> tuple[View, ...]:
        """The views that the stream writes."""
        return tuple(view for view in self.views if view.origin is Origin.STREAMED)

    @cached_property
    def daily(self) -> tuple[View, ...]:
        """The views that are computed once a day."""
        return tuple(view for view in self.views if view.origin is Origin.DAILY)

    @cached_property
    def stored(self) -> tuple[View, ...]:
        """The app's own views: what a model is trained on."""
        return tuple(view for view in self.views if view.origin is not Origin.MAPPING)

    @cached_property
    def services(self) -> dict[str, tuple[View, ...]]:
        """Feature services: the ranker's, and one per view."""
        return {RANKER_SERVICE: self.stored, **{view.name: (view,) for view in self.views}}

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """The entities of the views, each once."""
        return tuple(dict.fromkeys(view.entity for view in self.views))

    @cached_property
    def request_features(self) -> tuple[RequestTimeFeature, ...]:
        """All features of the moment of a request, in the order in which models list them: the app's, then ages."""
        return (*self.computed, *map(age_of, self.streamed))

    @cached_property
    def scalars(self) -> tuple[Feature, ...]:
        """The stored features that a model takes as they are: numbers, flags and texts."""
        return tuple(feature for view in self.stored for feature in view if feature.dtype.is_scalar)

    @cached_property
    def on_demand(self) -> tuple[RequestTimeFeature, ...]:
        """The request-time features that depend on nothing but stored features and the moment of the request."""
        known = {*self._stored_in, REQUEST_TIMESTAMP}
        return tuple(one for one in self.request_features if set(one.inputs) <= known)

    @cached_property
    def on_demand_sources(self) -> dict[str, tuple[str, ...]]:
        """The stored features that the on-demand features read, by view."""
        found: dict[str, tuple[str, ...]] = {}
        for name in dict.fromkeys(name for one in self.on_demand for name in one.inputs):
            if name in self._stored_in:
                view = self._stored_in[name][0].name
                found[view] = (*found.get(view, ()), name)
        return found

    @cached_property
    def _stored_in(self) -> dict[str, tuple[View, Feature]]:
        return {feature.name: (view, feature) for view in self.views for feature in view}

    @cached_property
    def _by_name(self) -> dict[str, View]:
        return {view.name: view for view in self.views}

    def view(self, name: str) -> View:
        """Return a view.

        Raises:
            KeyError: there is no such view.
        """
        if name not in self._by_name:
            raise KeyError(f"no view named {name!r}; there are {', '.join(self._by_name)}")
        return self._by_name[name]

    def feature(self, name: str) -> Feature:
        """Return a stored feature."""
        return self._stored_in[name][1]

    def of(self, entity: Entity | None) -> tuple[View, ...]:
        """Return an entity's own views, without the id mapping."""
        return tuple(view for view in self.stored if view.entity == entity)


def feature_set(
    views: Iterable[View], computed: Iterable[RequestTimeFeature] = (), item: Entity | None = None
) -> FeatureSet:
    """Return the features of an app's views, with the platform's own view behind them."""
    return FeatureSet(views=(*views, USER_SEQUENCE), computed=tuple(computed), item=item)


def item_of(features: FeatureSet) -> Entity:
    """Return the entity that is recommended.

    Raises:
        InvalidInput: the app declares no label, so nothing is recommended.
    """
    if features.item is None:
        raise InvalidInput("the app recommends nothing; declare a Label, whose `item` is the field with the item's id")
    return features.item


def age_of(view: View) -> RequestTimeFeature:
    """Return the feature that says how old a view's value is at the moment of a request."""
    name = f"{view.name}_age_seconds"

    def age(rows: Columns) -> Values:
        found: Values = rows[name].astype("float64")
        return found

    return RequestTimeFeature(
        name=f"{view.name}_age",
        inputs=(name,),
        compute=age,
        unit="seconds",
        minimum=0,
        null_when="no value within its time-to-live",
        description=f"Age of the {view.name} that the request sees.",
    )
