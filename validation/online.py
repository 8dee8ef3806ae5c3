"""Reads an online store's rows as tables that suites can check."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from stillpoint.app.entities import Entity
from stillpoint.app.feature_set import FeatureSet
from stillpoint.app.records import View
from stillpoint.features.columns import feature_columns
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import ABSENT_US, Mode
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.deletion import project_keys
from stillpoint.stores.redis.layout import parse_key


def sampled_ids(client: RedisClient, project: str, entity: Entity, count: int) -> dict[str, list[str]]:
    """Return the keys of up to `count` entities of a project, by name, in the order of Redis's SCAN."""
    ids: dict[str, list[str]] = {name: [] for name in entity.keys}
    for key in islice(project_keys(client, project, entity.keys), count):
        parsed = parse_key(key)
        assert parsed is not None
        for name, (_, value) in zip(parsed[0], parsed[1], strict=True):
            ids[name].append(value.decode())
    return ids


def online_tables(
    client: RedisClient, reader: OnlineReader, project: str, features: FeatureSet, *, count: int, now_us: int
) -> Iterator[tuple[View, pa.Table]]:
    """Yield each view with its rows of the sampled entities, also those past their time to live; entities without a row are left out."""
    for entity in features.entities:
        ids = sampled_ids(client, project, entity, count)
        for view in features.views:
            if view.entity == entity:
                yield view, _table(reader, view, ids, now_us)


def _table(reader: OnlineReader, view: View, ids: dict[str, list[str]], now_us: int) -> pa.Table:
    schema = feature_columns(view)
    if not any(ids.values()):
        return schema.empty_table()
    columns = reader.read([view.name], ids, now_us=now_us, mode=Mode.COMPAT)
    event_us, created_us = columns.event_us(view.name), columns.created_us(view.name)
    found: dict[str, Any] = {
        **ids,
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
