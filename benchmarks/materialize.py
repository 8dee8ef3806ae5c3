"""Measures how fast `materialize` fills Redis, beside tuned stock Feast, in one run.

`python benchmarks/materialize.py [--rows 1000000] [--users 20000]` prints a table and writes JSON (`--json PATH`). Stock
Feast: duckdb, `pull_latest_features`, a batch size, Redis. Both fill the same Redis, emptied before, in turn, and must leave
the same number of entities. Medians of `--repeat` fills; beside the seconds the processor time of the filling process and of
Redis, which a busy machine disturbs less.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _results import keep
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.repo_config import RepoConfig
from feast.types import Float64, String

from stillpoint.local.redis_server import RedisServer

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, FEATURES = 30, 5


def write_data(path: Path, *, rows: int, users: int, seed: int = 7) -> None:
    """Write one view's history; with as many users as rows every user has exactly one row."""
    random = np.random.default_rng(seed)
    event = np.datetime64(START.replace(tzinfo=None), "us") + random.integers(0, DAYS * 86_400_000_000, rows).astype(
        "timedelta64[us]"
    )
    numbers = random.permutation(rows) % users
    pl.DataFrame(
        {
            "user_id": [f"user-{number:07d}" for number in numbers],
            "event_timestamp": event,
            "created_timestamp": event,
            **{f"feature{feature}": random.random(rows) for feature in range(FEATURES)},
        }
    ).with_columns(pl.col("event_timestamp", "created_timestamp").dt.replace_time_zone("UTC")).write_parquet(
        path, row_group_size=200_000
    )


def open_store(path: Path, name: str, **sections: Any) -> FeatureStore:
    """Return a Feast store with one view over the file."""
    store = FeatureStore(
        config=RepoConfig(
            project=f"benchmark_{name}",
            provider="local",
            registry=str(path.with_name(f"{name}.db")),
            entity_key_serialization_version=3,
            **sections,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="view",
        entities=[user],
        ttl=timedelta(days=365),
        schema=[
            Field(name="user_id", dtype=String),
            *(Field(name=f"feature{feature}", dtype=Float64) for feature in range(FEATURES)),
        ],
        source=FileSource(
            path=str(path),
            file_format=ParquetFormat(),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        ),
    )
    store.apply([user, view])
    return store


@dataclass(frozen=True, slots=True)
class Fill:
    """What one fill took, in microseconds per user."""

    wall: float
    client: float
    redis: float


def fill(store: FeatureStore, server: RedisServer, users: int) -> Fill:
    """Fill an empty Redis."""
    client = server.client()
    client.flushall()
    before, start, own = _redis_seconds(client), time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        store.materialize(START, START + timedelta(days=DAYS))
    wall, own, redis = time.perf_counter() - start, time.process_time() - own, _redis_seconds(client) - before
    if (found := client.dbsize()) != users:
        raise SystemExit(f"{found} entities in Redis; expected {users}")
    return Fill(*(seconds / users * 1e6 for seconds in (wall, own, redis)))


def _redis_seconds(client: Any) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def median(fills: Sequence[Fill]) -> Fill:
    """Return the median of each time."""
    return Fill(*(statistics.median(getattr(one, name) for one in fills) for name in ("wall", "client", "redis")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--stock-rows", type=int, help="Let stock Feast fill this many rows only, and compare rates.")
    parser.add_argument("--batch", type=int, default=10_000, help="Stock Feast's online_write_batch_size.")
    parser.add_argument(
        "--skip-dedup",
        action="store_true",
        help="Stock Feast writes without comparing times: quicker, and an old row replaces a newer one.",
    )
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    stock_rows = options.stock_rows or options.rows
    stock_users = min(options.users, stock_rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = RedisServer(folder / "redis")
        try:
            write_data(folder / "ours.parquet", rows=options.rows, users=options.users)
            write_data(folder / "stock.parquet", rows=stock_rows, users=stock_users)
            connection = server.connection_string
            ours = open_store(
                folder / "ours.parquet",
                "ours",
                online_store={
                    "type": "stillpoint.stores.online.StillpointOnlineStore",
                    "connection_string": connection,
                },
                offline_store={"type": "stillpoint.stores.offline.StillpointOfflineStore"},
                batch_engine={"type": "stillpoint.stores.engine.StillpointEngine"},
            )
            stock = open_store(
                folder / "stock.parquet",
                "stock",
                online_store={"type": "redis", "connection_string": connection, "skip_dedup": options.skip_dedup},
                offline_store={"type": "duckdb"},
                batch_engine={"type": "local"},
                materialization={"pull_latest_features": True, "online_write_batch_size": options.batch},
            )
            taken = [
                (fill(ours, server, options.users), fill(stock, server, stock_users)) for _ in range(options.repeat)
            ]
        finally:
            server.stop()
    found = {"stillpoint": median([one for one, _ in taken]), "stock duckdb + redis": median([one for _, one in taken])}
    rows = {"stillpoint": options.rows, "stock duckdb + redis": stock_rows}
    for name, one in found.items():
        print(
            f"{name:22} {1e6 / one.wall:10,.0f} users/s ({rows[name]:,} rows); per user {one.wall:6.1f} µs, of processor time "
            f"{one.client:5.1f} µs here and {one.redis:4.1f} µs in Redis"
        )
    ours_found, stock_found = found.values()
    ratios = {name: getattr(stock_found, name) / getattr(ours_found, name) for name in ("wall", "client", "redis")}
    print(
        f"{'times faster':22} {ratios['wall']:10.1f} ×; processor time {ratios['client']:.1f} × here, {ratios['redis']:.1f} × in Redis"
    )
    keep({"microseconds_per_user": {name: asdict(one) for name, one in found.items()}, "ratios": ratios})


if __name__ == "__main__":
    main()
