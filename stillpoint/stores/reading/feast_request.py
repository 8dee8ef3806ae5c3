"""Resolves a call of Feast's `get_online_features`: each view gets the entities of its own join keys.

Feast's `_get_unique_entities` renames every given column and takes those that then fit: next to an alias with a join key
map the last of two columns wins, and a view is answered with another entity's values. Here each view looks up its columns
by the names under which it expects its join keys.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as Names
from dataclasses import dataclass
from typing import Any

from feast import FeatureService, FeatureView, Field, utils
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType as FeastValueType

from stillpoint.errors import InvalidInput, PlanRefused
from stillpoint.stores.redis.keys import encode_key_values, join_keys, requested_keys
from stillpoint.stores.redis.layout import ENTITYLESS_KEY, Column, key_prefix
from stillpoint.stores.values.encode import encode_value
from stillpoint.stores.values.types import KEY_TYPES, ValueType

EntityRows = list[dict[str, Any]] | Mapping[str, Sequence[Any] | RepeatedValue]


@dataclass(frozen=True, slots=True)
class ViewRows:
    """A requested view: its features, the distinct Redis keys of its entities, and the row numbers of each key."""

    table: FeatureView
    features: list[str]
    keys: list[bytes]
    places: list[list[int]]


@dataclass(frozen=True, slots=True)
class OnlineRequest:
    """A resolved call. `response` holds the join keys and the request data already, as Feast's answer begins with them."""

    views: list[ViewRows]
    rows: int
    response: GetOnlineFeaturesResponse
    shown: set[str]
    references: list[str]
    on_demand: list[OnDemandFeatureView]


def online_request(
    registry: BaseRegistry,
    project: str,
    features: list[str] | FeatureService,
    entity_rows: EntityRows,
    full_names: bool,
) -> OnlineRequest:
    """Resolve a call of `get_online_features`; `entity_rows` are rows with the same keys, in any order, or columns.

    Raises:
        InvalidInput: rows differ in their keys, columns in their length, or a join key is missing, null or of another type.
        PlanRefused: a view is requested twice under one name, with different join keys.
    """
    references, on_demand, _, _, known, grouped, shown, request_data, _ = utils._get_cached_request_context(
        registry, project, features, full_names
    )
    _refuse_two_maps(features, on_demand, [table for table, _ in grouped])
    columns = _columns(entity_rows)
    given = _Given(
        columns,
        registry,
        project,
        {_requested_name(table, field) for table, _ in grouped for field in table.entity_columns},
    )
    views = [ViewRows(table, list(asked), *given.distinct(table)) for table, asked in grouped]
    unasked = known - given.shown.keys()  # join keys that no view needs are shown too, as by Feast
    others = {name: _inferred(columns[name]) for name in columns if name in request_data or name in unasked}
    utils.ensure_request_data_values_exist(
        request_data, {name: others[name] for name in request_data if name in others}
    )
    told = others | given.shown
    response = GetOnlineFeaturesResponse(results=[])
    utils._populate_result_rows_from_columnar(
        response, {name: told[name] for name in (*columns, *told) if name in told}
    )
    names = set(shown) | given.shown.keys() | (known & columns.keys())
    return OnlineRequest(views, given.rows, response, names, references, on_demand)


class _Given:
    """The columns that a call gives, and the keys that views need from them; each column is encoded once per type."""

    def __init__(self, columns: dict[str, list[Any]], registry: BaseRegistry, project: str, asked: Names[str]) -> None:
        self._columns, self._registry, self._project, self._asked = columns, registry, project, asked
        self._encoded: dict[tuple[str, ValueType], list[bytes]] = {}
        self._distinct: dict[Any, tuple[list[bytes], list[list[int]]]] = {}
        self.rows = len(next(iter(columns.values()))) if columns else 1
        self.shown: dict[str, list[Value]] = {}

    def distinct(self, table: FeatureView) -> tuple[list[bytes], list[list[int]]]:
        """Return the distinct Redis keys of a view's entities, and the rows of each. Views of the same keys share them."""
        keys = tuple((_column(table, field), self._name(table, field)) for field in table.entity_columns)
        if keys not in self._distinct:
            ordered = sorted(keys, key=lambda key: key[0].name)
            parts = [self._encode(table, column, name) for column, name in ordered]
            prefix = key_prefix([column.name for column, _ in keys])
            places: dict[bytes, list[int]] = {}
            for row, key in enumerate(join_keys(prefix, parts, self._project.encode(), self.rows)):
                places.setdefault(key, []).append(row)
            self._distinct[keys] = list(places), list(places.values())
        return self._distinct[keys]

    def _name(self, table: FeatureView, field: Field) -> str | None:
        """Return the given column that holds a view's join key, None for a view without entities."""
        if field.name == ENTITYLESS_KEY:
            return None
        name = _requested_name(table, field)
        if name in self._columns:
            return name
        if not table.projection.join_key_map:  # Feast still takes an entity's name for its join key
            for entity in self._columns.keys() & set(table.entities) - self._asked:
                if self._registry.get_entity(entity, self._project, True).join_key == field.name:
                    return entity
        raise InvalidInput(
            f"view {table.projection.name_to_use()}: join key {name} is missing; given were "
            f"{', '.join(self._columns) or 'none'}; give it in every row"
        )

    def _encode(self, table: FeatureView, column: Column, name: str | None) -> list[bytes]:
        if name is None:
            return encode_key_values(column, [""] * self.rows, table.name)
        if (name, column.type) not in self._encoded:
            plain = requested_keys(Column(name, column.type), self._columns[name], table.projection.name_to_use())
            self._encoded[name, column.type] = encode_key_values(column, plain, table.name)
            self.shown.setdefault(
                str(table.projection.join_key_map.get(column.name, column.name)),
                [Value.FromString(encode_value(column.type, value)) for value in plain],
            )
        return self._encoded[name, column.type]


def _refuse_two_maps(
    features: list[str] | FeatureService, on_demand: Sequence[OnDemandFeatureView], tables: Sequence[FeatureView]
) -> None:
    """Refuse a view that is requested twice under one name with different join keys, which Feast would merge.

    Raises:
        PlanRefused: names the view and both maps.
    """
    maps = {table.projection.name_to_use(): table.projection.join_key_map for table in tables}
    asked = list(features.feature_view_projections) if isinstance(features, FeatureService) else []
    asked += [source for view in on_demand for source in view.source_feature_view_projections.values()]
    for projection in asked:
        name = projection.name_to_use()
        if maps.get(name, projection.join_key_map) != projection.join_key_map:
            raise PlanRefused(
                f"view {name} is asked by the join keys {maps[name] or 'of its own'} and by {projection.join_key_map or 'its own'}; "
                "give one of them a name of its own: with_name"
            )


def _columns(entity_rows: EntityRows) -> dict[str, list[Any]]:
    if isinstance(entity_rows, Mapping):
        columns = {
            name: [_python(value) for value in (values.val if isinstance(values, RepeatedValue) else values)]
            for name, values in entity_rows.items()
        }
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidInput(f"entity_rows: all columns need equally many values; found {lengths}")
        return columns
    if not entity_rows:
        raise InvalidInput("entity_rows: no row is given; expected at least one")
    names = list(entity_rows[0])
    for number, row in enumerate(entity_rows):
        if row.keys() != entity_rows[0].keys():
            raise InvalidInput(
                f"entity_rows: row {number} has the keys {', '.join(row) or 'none'}, and row 0 has {', '.join(names) or 'none'}; "
                "every row needs the same keys"
            )
    return {name: [_python(row[name]) for row in entity_rows] for name in names}


def _python(value: Any) -> Any:
    """Return the Python value in a Feast `Value`; anything else is returned unchanged."""
    if not isinstance(value, Value):
        return value
    kind = value.WhichOneof("val")
    return None if kind is None else getattr(value, kind)


def _requested_name(table: FeatureView, field: Field) -> str:
    """Return the name under which a view expects a join key."""
    return str(table.projection.join_key_map.get(field.name, field.name))


def _column(table: FeatureView, field: Field) -> Column:
    type = ValueType(field.dtype.to_value_type().name)
    if type not in KEY_TYPES:
        raise InvalidInput(
            f"view {table.name}: join key {field.name} has type {type}; a key can be one of {', '.join(sorted(KEY_TYPES))}"
        )
    return Column(field.name, type)


def _inferred(values: list[Any]) -> list[Value]:
    return list(python_values_to_proto_values(values, FeastValueType.UNKNOWN))
