"""Reads an online store's rows as tables that suites can check."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from stillpoint.features.columns import feature_columns
from stillpoint.features.declarations import VIEWS, Entity, View, content, user
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import ABSENT_US, Mode
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.deletion import project_keys
from stillpoint.stores.redis.layout import parse_key


def sampled_ids(client: RedisClient, project: str, entity: Entity, count: int) -> list[str]:
    """Return up to `count` entity ids of a project, in the order of Redis's SCAN."""
    ids = []
    for key in islice(project_keys(client, project, [entity.join_key]), count):
        parsed = parse_key(key)
        assert parsed is not None
        ((_, value),) = parsed[1]
        ids.append(value.decode())
    return ids


def online_tables(
    client: RedisClient, reader: OnlineReader, project: str, *, count: int, now_us: int
) -> Iterator[tuple[View, pa.Table]]:
    """Yield each view with its rows of the sampled entities, also those past their time to live; entities without a row are left out."""
    for entity in (user, content):
        ids = sampled_ids(client, project, entity, count)
        for view in VIEWS:
            if view.entity == entity:
                yield view, _table(reader, view, ids, now_us)


def _table(reader: OnlineReader, view: View, ids: list[str], now_us: int) -> pa.Table:
    schema = feature_columns(view)
    if not ids:
        return schema.empty_table()
    columns = reader.read([view.name], {view.entity.join_key: ids}, now_us=now_us, mode=Mode.COMPAT)
    event_us, created_us = columns.event_us(view.name), columns.created_us(view.name)
    found: dict[str, Any] = {
        view.entity.join_key: ids,
        "event_timestamp": pa.array(event_us, pa.timestamp("us", "UTC")),
        "created_timestamp": pa.array(created_us, pa.timestamp("us", "UTC"), mask=created_us == ABSENT_US),
        **{name: columns.values(name) for name in view.feature_names},
    }
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, schema.field(name).type)
        for name, value in ((field.name, found[field.name]) for field in schema)
    ]
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return pa.Table.from_arrays(arrays, schema=nullable).filter(pa.array(np.asarray(event_us != ABSENT_US)))
