"""The part of a historical request for each feature view: source columns, and their names in the result."""

from collections.abc import Sequence
from dataclasses import dataclass

from feast import FeatureView
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.types import Bool, FeastType, Float32, Float64, Int32, Int64, String

from stillpoint.clock import SECOND
from stillpoint.errors import UnknownFeature
from stillpoint.stores.history.names import Names, batch_source_of

NUMBERS: tuple[FeastType, ...] = (Int32, Int64, Float32, Float64, Bool)
TEXT: tuple[FeastType, ...] = (String,)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinKey:
    """A join key: its column in the spine and in the source, and its type as the view declares it."""

    spine: str
    source: str
    dtype: FeastType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedFeature:
    """A requested feature: its column in the source, its name in the result, and its declared type."""

    feature: str
    source: str
    output: str
    dtype: FeastType


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRequest:
    """Everything that a join needs to know of one view. `ttl` is in microseconds, None means no limit."""

    view: str
    source: DataSource
    keys: tuple[JoinKey, ...]
    event: str
    created: str | None
    features: tuple[RequestedFeature, ...]
    ttl: int | None
    event_output: str | None = None


def view_request(
    view: FeatureView, refs: Sequence[str], *, full_feature_names: bool, add_event_timestamp: bool
) -> ViewRequest:
    """Derive the request to one view from feature references such as `view:feature`.

    Names follow Feast: an aliased view (`with_name`) is called by its alias, join keys by the view's join key map, and
    source columns by the source's field mapping in reverse.

    Raises:
        UnknownFeature: a reference names a feature that the view does not have.
        InvalidInput: the view has no batch source.
    """
    source = batch_source_of(view)
    stored = Names.of(source).stored
    called = view.projection.name_to_use()
    base = view.projection.name_alias or view.name
    dtypes = {field.name: field.dtype for field in view.features}
    wanted = []
    for ref in dict.fromkeys(refs):
        name, _, feature = ref.partition(":")
        if name != called:
            continue
        if feature not in dtypes:
            raise UnknownFeature(
                f"feature view {view.name!r} has no feature {feature!r}; it has {', '.join(sorted(dtypes))}"
            )
        wanted.append(
            RequestedFeature(
                feature=feature,
                source=stored(feature),
                output=f"{base}__{feature}" if full_feature_names else feature,
                dtype=dtypes[feature],
            )
        )
    key_map = view.projection.join_key_map or {}
    created = source.created_timestamp_column or None
    return ViewRequest(
        view=base,
        source=source,
        keys=tuple(
            JoinKey(spine=key_map.get(column.name, column.name), source=stored(column.name), dtype=column.dtype)
            for column in view.entity_columns
            if column.name != DUMMY_ENTITY_ID
        ),
        event=stored(source.timestamp_field),
        created=stored(created) if created else None,
        features=tuple(wanted),
        ttl=round(view.ttl.total_seconds() * SECOND) if view.ttl else None,
        event_output=f"{base}__event_timestamp" if add_event_timestamp else None,
    )
