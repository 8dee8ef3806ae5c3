"""Compares online reads with stock Feast's, side by side in one run.

Feast's published workload: 25 views × 10 Int64 features of one entity; 50 features for 1, 10, 50, 100 entities, and all
250 for 1. Stock Feast's Redis store, our plugin under Feast, and the read plan read the same bytes in the same Redis,
interleaved call by call; medians, and the processor time of client and Redis together, which a busy machine disturbs
less. Also the memory of one user of our own views, by Redis's settings. Prints a table and writes
`benchmarks/results/online_reads.json`. Asserts nothing.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import _of_tests  # noqa: F401
import numpy as np
import pyarrow as pa
import typer
from _results import keep
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.types import Int64, String

from stillpoint.app.records import View
from stillpoint.dtypes import DType
from stillpoint.local.redis_server import RedisServer
from stillpoint.stores.online import StillpointOnlineStoreConfig
from stillpoint.stores.reading.compile import compile_plan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.reading.types import Mode
from stillpoint.stores.redis.connection import connect
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter
from tests.support.wellness import VIEWS

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ENTITIES = 1000
GOALS = {(50, 1): (4, 5), (50, 10): (5, 6), (50, 50): (5, 7), (50, 100): (5, 7), (250, 1): (5, 6)}


def stores(folder: Path, port: int, project: str = "bench") -> tuple[FeatureStore, FeatureStore]:
    """Return stock Feast and ours over one Redis and one project, with the workload's views applied."""
    made = []
    for name, online in (
        ("stock", RedisOnlineStoreConfig(connection_string=f"127.0.0.1:{port},db=0")),
        ("ours", StillpointOnlineStoreConfig(connection_string=f"127.0.0.1:{port},db=0")),
    ):
        store = FeatureStore(
            config=RepoConfig(
                project=project,
                provider="local",
                registry=str(folder / f"{name}.pb"),
                online_store=online,
                entity_key_serialization_version=3,
            )
        )
        entity = Entity(name="entity", join_keys=["entity_id"], value_type=ValueType.STRING)
        views = [
            FeatureView(
                name=f"view_{v}",
                entities=[entity],
                ttl=timedelta(days=1),
                schema=[Field(name="entity_id", dtype=String)]
                + [Field(name=f"feature_{v * 10 + f}", dtype=Int64) for f in range(10)],
                source=FileSource(path="nowhere.parquet", timestamp_field="event_timestamp", name=f"source_{v}"),
            )
            for v in range(25)
        ]
        store.apply([entity, *views])
        made.append(store)
    return made[0], made[1]


def fill(store: FeatureStore, client: Any, below: int = 1000) -> None:
    """Write the workload's rows: random numbers below 1000 as in the published benchmark, one time per view and entity."""
    plan = compile_plan(store)
    random = np.random.default_rng(7)
    for view in plan.views:
        columns: dict[str, Any] = {
            "entity_id": [f"e{n}" for n in range(ENTITIES)],
            "event_timestamp": pa.array(
                [NOW - timedelta(milliseconds=int(ms)) for ms in random.integers(0, 3_600_000, ENTITIES)],
                pa.timestamp("us", tz="UTC"),
            ),
        }
        columns |= {feature.name: random.integers(0, below, ENTITIES) for feature in view.features}
        OnlineWriter(client, plan.project).write(view, pa.table(columns))


def interleaved(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return each call's median in milliseconds, all of them called in turn for `seconds`."""
    for call in calls.values():
        for _ in range(5):
            call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[next(iter(taken))]) < 10:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(values) for name, values in taken.items()}


def processor(calls: dict[str, Callable[[], Any]], client: Any, seconds: float) -> dict[str, float]:
    """Return the milliseconds of processor time that a call takes here and in Redis together: the least of four runs."""

    def used() -> float:
        redis = client.info("cpu")
        return time.thread_time() + float(redis["used_cpu_user"]) + float(redis["used_cpu_sys"])

    least: dict[str, float] = {}
    for _ in range(4):
        for name, call in calls.items():
            count, before, end = 0, used(), time.perf_counter() + seconds / 12
            while time.perf_counter() < end:
                call()
                count += 1
            least[name] = min(least.get(name, float("inf")), (used() - before) / count * 1000)
    return least


def reads(seconds: float, below: int) -> list[dict[str, Any]]:
    """Measure the five read workloads, of random numbers below `below`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            stock, ours = stores(Path(folder), server.port)
            client = connect(server.connection_string)
            fill(ours, client, below)
            reader = OnlineReader(client, compile_plan(ours), created=False)
            for (features, entities), (goal, height) in GOALS.items():
                refs = [f"view_{n // 10}:feature_{n}" for n in range(0, 250, 250 // features)]
                keys = {"entity_id": [f"e{n * 7 % ENTITIES}" for n in range(entities)]}
                now_us = int(NOW.timestamp()) * 1_000_000
                wanted = stock.get_online_features(refs, keys).to_dict()
                assert reader.read(refs, keys, now_us=now_us, mode=Mode.COMPAT).to_dict() == wanted
                asked = (refs, keys, now_us)
                calls: dict[str, Callable[[], Any]] = {
                    "stock": lambda a=asked: stock.get_online_features(a[0], a[1]).to_dict(),
                    "plan": lambda a=asked: reader.read(a[0], a[1], now_us=a[2], mode=Mode.COMPAT).to_dict(),
                    "enforced": lambda a=asked: reader.read(a[0], a[1], now_us=a[2]).to_dict(),
                }
                medians = interleaved(calls, seconds)
                busy = {f"{name} processor": value for name, value in processor(calls, client, seconds).items()}
                # apart: a second FeatureStore called in between would empty Feast's resolution cache at each call
                medians |= interleaved(
                    {"plugin": lambda a=asked: ours.get_online_features(a[0], a[1]).to_dict()}, seconds / 3
                )
                rows.append(
                    {"features": features, "entities": entities, "goal": goal, "height": height, **medians, **busy}
                )
        finally:
            server.stop()
    return rows


def memory() -> dict[str, float]:
    """Return Redis's bytes per user of all our user views, embedding included, by setting."""
    result = {}
    for name, options, created in (
        ("hash-max-listpack-value 64 (Redis's default)", {"hash-max-ziplist-value": "64"}, True),
        ("hash-max-listpack-value 1200", {"hash-max-ziplist-value": "1200"}, True),
        ("hash-max-listpack-value 1200, entries 40", {"hash-max-ziplist-value": "1200", "hash-max-ziplist-entries": "40"}, True),
        ("hash-max-listpack-value 1200, without created times", {"hash-max-ziplist-value": "1200"}, False),
    ):  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            server = RedisServer(Path(folder), options=options)
            try:
                client = connect(server.connection_string)
                before = client.info("memory")["used_memory"]
                for view in VIEWS:
                    if view.entity.value == "user":
                        rows = sample(view, 5000)
                        OnlineWriter(client, "stillpoint_green").write(
                            ViewLayout.of(view), rows if created else rows.drop_columns(["created_timestamp"])
                        )
                result[name] = (client.info("memory")["used_memory"] - before) / 5000
            finally:
                server.stop()
    return result


def sample(view: View, count: int) -> Any:
    """Return plausible rows of one of our views for `count` users."""
    random = np.random.default_rng(3)
    times = pa.array(
        [NOW - timedelta(microseconds=int(n)) for n in random.integers(0, 10**9, count)], pa.timestamp("us", tz="UTC")
    )
    columns: dict[str, Any] = {
        view.entity.join_key: [f"u{n:06d}" for n in range(count)],
        "event_timestamp": times,
        "created_timestamp": times,
    }
    for feature in view:
        if feature.dtype is DType.INT64:
            columns[feature.name] = random.integers(0, 500, count)
        elif feature.dtype is DType.FLOAT64:
            columns[feature.name] = random.random(count)
        elif feature.dtype is DType.BOOL:
            columns[feature.name] = random.random(count) < 0.5
        elif feature.dtype is DType.STRING:
            columns[feature.name] = ["regular"] * count
        else:
            columns[feature.name] = pa.FixedSizeListArray.from_arrays(
                random.random(count * 256).astype(np.float32), 256
            )
    return pa.table(columns)


def main(seconds: float = 2.0, below: int = 1000) -> None:
    """Run it, print the table, write the JSON. Small numbers are remembered by their bytes: `--below` 4611686018427387904
    shows what reads cost without that."""
    rows, bytes_per_user = reads(seconds, below), memory()
    print("median ms            stock Feast   plugin (ratio)    read plan (ratio)   enforced (ratio)   goal / height")
    for row in rows:
        shown = "   ".join(
            f"{row[name]:8.3f} ({row['stock'] / row[name]:4.1f}x)" for name in ("plugin", "plan", "enforced")
        )
        print(
            f"{row['features']:4} x {row['entities']:<4} {row['stock']:18.3f}   {shown}   {row['goal']}x / {row['height']}x"
        )
    print("processor ms of client and Redis   stock Feast        read plan (ratio)   enforced (ratio)")
    for row in rows:
        stock = row["stock processor"]
        shown = "   ".join(
            f"{row[name]:8.3f} ({stock / row[name]:4.1f}x)" for name in ("plan processor", "enforced processor")
        )
        print(f"{row['features']:4} x {row['entities']:<4} {stock:33.3f}   {shown}")
    for name, value in bytes_per_user.items():
        print(f"memory per user, {name}: {value:.0f} B")
    keep({"below": below, "reads": rows, "bytes_per_user": bytes_per_user})


if __name__ == "__main__":
    typer.run(main)
