"""How fast is a point-in-time join, beside tuned stock Feast and a bare Polars as-of join, in one run?

`python benchmarks/point_in_time.py [--labels 200000] [--rows 1000000] [--users 20000]` prints a table and writes JSON
(`--json PATH`). Three views of five features each, time-to-live 7 days, the same files for all.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
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

    def people(count: int) -> list[str]:
        return [f"user-{number:07d}" for number in random.integers(0, users, count)]

    for view in range(VIEWS):
        event = moments(rows)
        frame = pl.DataFrame(
            {
                "user_id": people(rows),
                "event_timestamp": event,
                "created_timestamp": event + random.integers(0, 7_200_000_000, rows).astype("timedelta64[us]"),
                **{f"v{view}_f{feature}": random.random(rows) for feature in range(FEATURES)},
            }
        ).with_columns(pl.col("event_timestamp", "created_timestamp").dt.replace_time_zone("UTC"))
        frame.write_parquet(folder / f"view{view}.parquet", row_group_size=200_000)
    times = pd.to_datetime(pd.Series(moments(labels)), utc=True)
    return pd.DataFrame({"user_id": people(labels), "event_timestamp": times})


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
    """The join that a person would write by hand, without a cutoff, ties or null keys."""
    joined = pl.from_pandas(spine).with_row_index("row").sort("event_timestamp")
    for view in range(VIEWS):
        features = pl.read_parquet(folder / f"view{view}.parquet").drop("created_timestamp").sort("event_timestamp")
        joined = joined.join_asof(features, on="event_timestamp", by="user_id", tolerance=TTL, check_sortedness=False)
    return joined.sort("row").drop("row").to_arrow().num_rows


def best(run: Callable[[], int], labels: int, repeat: int) -> float:
    """Return the best time of several runs, in seconds, each of which must return every label row."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - start)
        if found != labels:
            raise SystemExit(f"{found} rows for {labels} labels")
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=200_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spine = write_data(folder, labels=options.labels, rows=options.rows, users=options.users)
        ours = open_store(folder, {"type": "stillpoint.stores.offline.StillpointOfflineStore"})
        stock = open_store(folder, {"type": "duckdb"})
        seconds = {
            "bare polars join_asof": best(lambda: bare_polars(folder, spine), options.labels, options.repeat),
            "stillpoint, cutoff off": best(lambda: through_feast(ours, spine, False), options.labels, options.repeat),
            "stillpoint, cutoff on": best(lambda: through_feast(ours, spine, True), options.labels, options.repeat),
            "stock duckdb, cutoff off": best(
                lambda: through_feast(stock, spine, False), options.labels, options.repeat
            ),
            "stock duckdb, cutoff on": best(lambda: through_feast(stock, spine, True), options.labels, options.repeat),
        }
    bare = seconds["bare polars join_asof"]
    ratios = {
        "times faster than stock, cutoff off": seconds["stock duckdb, cutoff off"] / seconds["stillpoint, cutoff off"],
        "times faster than stock, cutoff on": seconds["stock duckdb, cutoff on"] / seconds["stillpoint, cutoff on"],
        "time of bare polars, cutoff off": seconds["stillpoint, cutoff off"] / bare,
        "time of bare polars, cutoff on": seconds["stillpoint, cutoff on"] / bare,
    }
    for label, value in seconds.items():
        print(f"{label:40} {value:8.3f} s")
    for label, value in ratios.items():
        print(f"{label:40} {value:8.2f} ×")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "ratios": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
