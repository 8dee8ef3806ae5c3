"""Writes a view's rows from Arrow into the online store.

Into `StillpointOnlineStore` by columns, through the ordered writer; into any other store through Feast's own
`online_write_batch`.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from feast import FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import RepoConfig
from feast.utils import _convert_arrow_to_proto

from stillpoint.errors import InvalidInput
from stillpoint.stores.materialize.computed import beyond_floats
from stillpoint.stores.redis.connection import Topology, connect
from stillpoint.stores.redis.layout import Column, ViewLayout
from stillpoint.stores.redis.writer import CREATED_TIMESTAMP, EVENT_TIMESTAMP, OnlineWriter
from stillpoint.stores.values.exact_times import utc_micros
from stillpoint.stores.values.types import ValueType

OUR_STORE = "stillpoint.stores.online"

Sink = Callable[[pa.Table], None]
"""Writes rows of one view: join keys, features, and the source's time columns, by the names of the view's definition."""


def open_sink(config: RepoConfig, store: OnlineStore, view: FeatureView) -> Sink:
    """Return the fastest function that writes a view's rows into an online store. Thread-safe."""
    if type(store).__module__ == OUR_STORE:
        return _columns_sink(config, view)
    return _rows_sink(config, store, view)


def view_layout(view: FeatureView) -> ViewLayout:
    """Return the Redis layout of a Feast view.

    Raises:
        InvalidInput: a join key or feature has a type that the layout does not support.
    """
    try:
        keys = tuple(Column(c.name, ValueType(c.dtype.to_value_type().name)) for c in view.entity_columns)
        features = tuple(Column(f.name, ValueType(f.dtype.to_value_type().name)) for f in view.features)
    except ValueError as error:
        raise InvalidInput(f"view {view.name}: {error}") from None
    return ViewLayout(view.name, keys or (Column(DUMMY_ENTITY_ID, ValueType.STRING),), features)


def _columns_sink(config: RepoConfig, view: FeatureView) -> Sink:
    settings = config.online_store
    text = settings.connection_string
    topology = getattr(settings, "redis_type", None)
    client = connect(
        text.get_secret_value() if hasattr(text, "get_secret_value") else text,
        topology=topology if isinstance(topology, Topology) else None,
        sentinel_master=getattr(settings, "sentinel_master", "mymaster"),
    )
    writer = OnlineWriter(client, config.project, key_ttl_seconds=getattr(settings, "key_ttl_seconds", None))
    layout = view_layout(view)
    source = view.batch_source

    def write(table: pa.Table) -> None:
        columns = {column.name: table[column.name] for column in layout.features}
        for key in layout.join_keys:
            columns[key.name] = pa.array([""] * len(table)) if key.name == DUMMY_ENTITY_ID else table[key.name]
        columns[EVENT_TIMESTAMP] = _utc(table[source.timestamp_field])
        if source.created_timestamp_column:
            columns[CREATED_TIMESTAMP] = _utc(table[source.created_timestamp_column])
        writer.write(layout, pa.table(columns))

    return write


def _utc(column: pa.ChunkedArray) -> pa.Array:
    return utc_micros(column).view(pa.timestamp("us", tz="UTC"))


def _rows_sink(config: RepoConfig, store: OnlineStore, view: FeatureView) -> Sink:
    keys: dict[str, Any] = {column.name: column.dtype.to_value_type() for column in view.entity_columns}

    def write(table: pa.Table) -> None:
        if DUMMY_ENTITY_ID in keys and DUMMY_ENTITY_ID not in table.column_names:
            table = table.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * len(table), pa.string()))
        for part in _exact_parts(table):
            rows = _convert_arrow_to_proto(part.combine_chunks(), view, keys)
            store.online_write_batch(config, view, rows, lambda count: None)

    return write


def _exact_parts(table: pa.Table) -> list[pa.Table]:
    """Return the table as one part, or row by row if Feast would round whole numbers in a column with nulls."""
    if any(beyond_floats(column) for column in table.columns):
        return [table.slice(row, 1) for row in range(table.num_rows)]
    return [table]
