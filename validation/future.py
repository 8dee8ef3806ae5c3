"""Removes rows with future timestamps from the lake and the online stores, and restores the newest valid rows.

The lake's files with such rows are superseded by files without them, in one commit. Online, a view's fields are deleted only while they
still hold the future timestamp, and written again from the lake. It can be repeated after a kill.
"""

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stillpoint.app.records import Origin, View
from stillpoint.clock import FUTURE_TOLERANCE, to_micros
from stillpoint.lake.commits import Commit, CommittedFile
from stillpoint.lake.datasets import TABLES, feature_dataset
from stillpoint.lake.tables import COMPRESSION, Lake
from stillpoint.stores.redis.client import RedisClient
from stillpoint.stores.redis.connection import redis_errors
from stillpoint.stores.redis.deletion import project_keys
from stillpoint.stores.redis.layout import ViewLayout, decode_created, parse_key
from stillpoint.stores.redis.writer import OnlineWriter
from stillpoint.stores.values.times import decode_time

LATEST_AHEAD = 2 * FUTURE_TOLERANCE
"""How far ahead a stored time may lie: the allowed error of a client's clock plus that of the stream's."""
_AT_ONCE = 1_000
_STORED = "stillpoint:rec:*"

_FORGET = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], unpack(ARGV, 3))
return 1
"""
"""KEYS: entity. ARGV: `_ts:` field, the time that it must hold still, fields to delete. Returns whether they went."""


@dataclass(slots=True)
class FutureRows:
    """What was found: rows by dataset, entities by project and view, stored lists. `refilled` counts entities that got valid rows again."""

    lake: dict[str, int] = field(default_factory=dict)
    online: dict[str, int] = field(default_factory=dict)
    refilled: dict[str, int] = field(default_factory=dict)
    recommendations: int = 0

    @property
    def total(self) -> int:
        return sum(self.lake.values()) + sum(self.online.values()) + self.recommendations


def repair_lake(lake: Lake, found: FutureRows, *, now: datetime, dry_run: bool = False) -> None:
    """Supersede the feature files that hold rows with future timestamps. Callers hold the lease `compact`."""
    limit = now + LATEST_AHEAD
    run = f"repair-{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    added: list[CommittedFile] = []
    gone: list[str] = []
    for view in lake.features.stored:
        dataset = feature_dataset(view)
        for file in lake.files(dataset):
            table = lake.open(dataset, [file]).to_table()
            ahead = _ahead(table, limit)
            count = int(pc.sum(ahead).as_py() or 0)
            if not count:
                continue
            found.lake[dataset] = found.lake.get(dataset, 0) + count
            if dry_run:
                continue
            kept = table.filter(pc.invert(ahead))
            if file.path.startswith(TABLES):
                sink = io.BytesIO()
                pq.write_table(kept, sink, compression=COMPRESSION, coerce_timestamps="us")
                lake.objects.put(file.path, sink.getvalue())
                continue
            gone.append(file.path)
            if kept.num_rows:
                added.append(lake.write(dataset, file.date, f"{run}-{len(gone):06d}", kept))
    if gone:
        lake.commit(Commit(writer=run, sequence=0, at=now, files=tuple(added), supersedes=tuple(gone)))


def repair_online(
    lake: Lake, client: RedisClient, project: str, found: FutureRows, *, now: datetime, dry_run: bool = False
) -> None:
    """Delete values with future timestamps from one project, and write each entity's newest valid row of the lake instead."""
    limit = to_micros(now + LATEST_AHEAD)
    for view in lake.features.views:
        layout = ViewLayout.of(view)
        place = f"{project}/{view.name}"
        ids: list[str] = []
        keys = project_keys(client, project, [view.entity.join_key])
        while batch := list(islice(keys, _AT_ONCE)):
            ids += [_id(key) for key in _forget(client, layout, batch, limit, dry_run)]
        if not ids:
            continue
        found.online[place] = len(ids)
        if not dry_run and view.origin is not Origin.MAPPING:
            rows = _newest(lake, view, ids, now + LATEST_AHEAD)
            OnlineWriter(client, project).write(layout, rows)
            found.refilled[place] = rows.num_rows


def repair_recommendations(client: RedisClient, found: FutureRows, *, now: datetime, dry_run: bool = False) -> None:
    """Delete stored lists whose event lies in the future: no later list could replace them."""
    limit = f"{to_micros(now + LATEST_AHEAD):020d}"
    with redis_errors(client):
        for key in client.scan_iter(match=_STORED, count=_AT_ONCE):
            order = client.hget(key, "order")
            if order is not None and order.decode().partition(":")[0] > limit:
                found.recommendations += 1
                if not dry_run:
                    client.delete(key)


def _ahead(table: pa.Table, limit: datetime) -> pa.ChunkedArray:
    ahead = [
        pc.fill_null(pc.greater(table[name], pa.scalar(limit, table[name].type)), False)
        for name in ("event_timestamp", "created_timestamp")
    ]
    return pc.or_(*ahead)


def _forget(client: RedisClient, layout: ViewLayout, keys: list[bytes], limit: int, dry_run: bool) -> Iterator[bytes]:
    """Delete a view's fields that hold future timestamps, and yield their entities."""
    with redis_errors(client):
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(key, layout.event_field, layout.created_field)
        stored = dict(zip(keys, pipeline.execute(), strict=True))
        ahead = {
            key: event
            for key, (event, created) in stored.items()
            if event is not None and max(decode_time(event), decode_created(created, event) or 0) > limit
        }
        if not dry_run:
            fields = (layout.event_field, layout.created_field, *layout.fields)
            for key, event in ahead.items():
                client.eval(_FORGET, 1, key, layout.event_field, event, *fields)
    yield from ahead


def _id(key: bytes) -> str:
    parsed = parse_key(key)
    assert parsed is not None
    ((_, value),) = parsed[1]
    return value.decode()


def _newest(lake: Lake, view: View, ids: list[str], limit: datetime) -> pa.Table:
    """Return the newest rows of these entities whose timestamps are not in the future."""
    dataset, key = feature_dataset(view), view.entity.join_key
    table = lake.open(dataset, lake.files_as_stored(dataset)).to_table(filter=pc.field(key).isin(ids))
    table = table.filter(pc.invert(_ahead(table, limit)))
    frame = pl.DataFrame(pl.from_arrow(table)).sort(key, "event_timestamp", "created_timestamp", maintain_order=True)
    return frame.unique([key], keep="last", maintain_order=True).to_arrow().cast(table.schema)
