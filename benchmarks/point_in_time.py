"""Measures a point-in-time join, beside tuned stock Feast and a bare Polars as-of join, in one run.

`python benchmarks/point_in_time.py [--labels 200000] [--rows 1000000] [--users 20000]` prints a table and writes JSON
(`--json PATH`). Three views of five features each, time-to-live 7 days, the same files for all. Each takes its turn in every
round; the best round counts, and beside it the least processor time, which a busy machine disturbs less.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from _results import keep
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.repo_config import RepoConfig
from feast.types import Float64, String

TTL = timedelta(days=7)
START = datetime(2026, 3, 1, tzinfo=UTC)
VIEWS, FEATURES = 3, 5


def write_data(folder: Path, *, labels: int, rows: int, users: int, seed: int = 7) -> pd.DataFrame:
    """Write the views' files into `folder` and return the spine."""
    random = np.random.default_rng(seed)
    base = np.datetime64(START.replace(tzinfo=None), "us")

    def moments(count: int, days: int = 60) -> Any:
        return base + random.integers(0, days * 86_400_000_000, count).astype("timedelta64[us]")

    def user_ids(count: int) -> list[str]:
        return [f"user-{number:07d}" for number in random.integers(0, users, count)]

    for view in range(VIEWS):
        event = moments(rows)
        frame = pl.DataFrame(
            {
                "user_id": user_ids(rows),
                "event_timestamp": event,
                "created_timestamp": event + random.integers(0, 7_200_000_000, rows).astype("timedelta64[us]"),
                **{f"v{view}_f{feature}": random.random(rows) for feature in range(FEATURES)},
            }
        ).with_columns(pl.col("event_timestamp", "created_timestamp").dt.replace_time_zone("UTC"))
        frame.write_parquet(folder / f"view{view}.parquet", row_group_size=200_000)
    times = pd.to_datetime(pd.Series(moments(labels)), utc=True)
    return pd.DataFrame({"user_id": user_ids(labels), "event_timestamp": times})


def open_store(folder: Path, offline_store: dict[str, Any]) -> FeatureStore:
    """Return a Feast store over the files, with the views registered."""
    name = offline_store["type"].rsplit(".", 1)[-1].lower()
    store = FeatureStore(
        config=RepoConfig(
            project="benchmark",
            provider="local",
            registry=str(folder / f"{name}.db"),
            online_store={"type": "sqlite", "path": str(folder / f"{name}-online.db")},
            offline_store=offline_store,
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    views = [
        FeatureView(
            name=f"view{view}",
            entities=[user],
            ttl=TTL,
            schema=[
                Field(name="user_id", dtype=String),
                *(Field(name=f"v{view}_f{feature}", dtype=Float64) for feature in range(FEATURES)),
            ],
            source=FileSource(
                path=str(folder / f"view{view}.parquet"),
                file_format=ParquetFormat(),
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
        )
        for view in range(VIEWS)
    ]
    store.apply([user, *views])
    return store


REFS = [f"view{view}:v{view}_f{feature}" for view in range(VIEWS) for feature in range(FEATURES)]


def through_feast(store: FeatureStore, spine: pd.DataFrame, cutoff: bool) -> int:
    job = store.get_historical_features(entity_df=spine, features=REFS, filter_by_created_timestamp=cutoff)
    return int(job.to_arrow().num_rows)


def bare_polars(folder: Path, spine: pd.DataFrame) -> int:
    """The join that one would write by hand, without a cutoff, ties or null keys."""
    joined = pl.from_pandas(spine).with_row_index("row").sort("event_timestamp")
    for view in range(VIEWS):
        features = pl.read_parquet(folder / f"view{view}.parquet").drop("created_timestamp").sort("event_timestamp")
        joined = joined.join_asof(features, on="event_timestamp", by="user_id", tolerance=TTL, check_sortedness=False)
    return joined.sort("row").drop("row").to_arrow().num_rows


def best(runs: dict[str, Callable[[], int]], labels: int, repeat: int) -> dict[str, tuple[float, float]]:
    """Return each run's best time and least processor time, in seconds; each must return every label row."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            found = run()
            taken[name].append((time.perf_counter() - start, time.process_time() - used))
            if found != labels:
                raise SystemExit(f"{name}: {found} rows for {labels} labels")
    return {name: (min(wall for wall, _ in times), min(used for _, used in times)) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spine = write_data(folder, labels=options.labels, rows=options.rows, users=options.users)
        ours = open_store(folder, {"type": "stillpoint.stores.offline.StillpointOfflineStore"})
        stock = open_store(folder, {"type": "duckdb"})
        runs: dict[str, Callable[[], int]] = {
            "bare polars join_asof": lambda: bare_polars(folder, spine),
            "stillpoint, cutoff off": lambda: through_feast(ours, spine, False),
            "stillpoint, cutoff on": lambda: through_feast(ours, spine, True),
            "stock duckdb, cutoff off": lambda: through_feast(stock, spine, False),
            "stock duckdb, cutoff on": lambda: through_feast(stock, spine, True),
        }
        seconds = best(runs, options.labels, options.repeat)
    ratios = {
        title: tuple(over / under for over, under in zip(seconds[above], seconds[below], strict=True))
        for title, above, below in (
            ("times faster than stock, cutoff off", "stock duckdb, cutoff off", "stillpoint, cutoff off"),
            ("times faster than stock, cutoff on", "stock duckdb, cutoff on", "stillpoint, cutoff on"),
            ("time of bare polars, cutoff off", "stillpoint, cutoff off", "bare polars join_asof"),
            ("time of bare polars, cutoff on", "stillpoint, cutoff on", "bare polars join_asof"),
        )
    }
    for label, (wall, used) in seconds.items():
        print(f"{label:40} {wall:8.3f} s, processor time {used:8.3f} s")
    for label, (wall, used) in ratios.items():
        print(f"{label:40} {wall:8.2f} ×, processor time {used:8.2f} ×")
    keep({"seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
