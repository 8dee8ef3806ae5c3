"""Measures how long a release takes to fill a colour while the other one is read, and how readers' latencies change.

`python benchmarks/fill.py [--users 100000]` prints a table and writes JSON (`--json PATH`). The lake holds every user in the
daily views and the id mapping, and one in twenty in the streamed views. Two releases are prepared: the first into an empty
store, the second while a process of its own reads the live colour, 200 users a second. The peer is the first fill: the same
work without readers. Memory is the peak of the filling process.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import _of_tests  # noqa: F401
import numpy as np
import polars as pl
import pyarrow as pa
import xgboost
from _results import keep

from release.check import check
from release.context import ReleaseContext
from release.models import routes_of
from release.prepare import NewRelease, prepare
from release.switch import switch
from stillpoint.app.entities import user
from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.app.records import Origin, View
from stillpoint.clock import system_clock, to_micros
from stillpoint.dtypes import DType
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake, feature_columns
from stillpoint.local.redis_server import RedisServer
from stillpoint.messages import Kind
from stillpoint.model import COLLABORATIVE_SCORE, ModelBundle, ModelManifest
from stillpoint.settings import Settings
from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.reading.reader import OnlineReader
from stillpoint.stores.redis.connection import connect
from tests.support.wellness import FEATURES, VIEWS, content

READS_PER_SECOND = 200
CONTENTS = 300
STREAMED_SHARE = 20


def rows_of(view: View, count: int, at: datetime, random: np.random.Generator, mapping: int) -> pa.Table:
    """Return one row per entity with values in the declared ranges."""
    columns: dict[str, Any] = {
        view.entity.join_key: [f"{view.entity.value}-{number:07d}" for number in range(count)],
        "event_timestamp": [at] * count,
        "created_timestamp": [at] * count,
    }
    for feature in view:
        low = feature.minimum or 0.0
        if feature.name == "mapping_version":
            columns[feature.name] = np.full(count, mapping)
        elif feature.name == "sequence_id":
            columns[feature.name] = random.permutation(count)
        elif feature.dtype is DType.INT64:
            columns[feature.name] = int(low) + random.integers(0, 50, count)
        elif feature.dtype is DType.FLOAT64:
            columns[feature.name] = low + random.random(count)
        elif feature.dtype is DType.BOOL:
            columns[feature.name] = random.random(count) < 0.5
        elif feature.dtype is DType.STRING:
            columns[feature.name] = random.choice(list(feature.values or ("text",)), count)
        else:
            vectors = random.normal(size=(count, 256)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            columns[feature.name] = pa.FixedSizeListArray.from_arrays(vectors.ravel(), 256).cast(pa.list_(pa.float32()))
    return pa.table(columns).cast(feature_columns(view))


def make_lake(lake: Lake, users: int, now: datetime) -> None:
    """Write what two releases are filled from; the mappings give the users different numbers."""
    random = np.random.default_rng(7)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for view in VIEWS:
        for mapping in (1, 2) if view is USER_SEQUENCE else (1,):
            count = CONTENTS if view.entity == content else users
            at = midnight
            if view.origin is Origin.STREAMED:
                count, at = max(1, users // STREAMED_SHARE), now - timedelta(minutes=1)
            table = rows_of(view, count, at, random, mapping)
            dataset = feature_dataset(view, mapping)
            writer = f"bench-{dataset.replace('/', '-')}"
            files = tuple(lake.write(dataset, day, writer, part) for day, part in by_date(table))
            lake.commit(Commit(writer=writer, sequence=0, at=now, files=files))


def make_model(lake: Lake, mapping: int, users: int) -> str:
    """Keep a small model of a mapping in the lake; return its digest."""
    rows = np.array([[0.0], [1.0]] * 20, dtype=np.float32)
    booster = xgboost.train({"max_depth": 2, "nthread": 1}, xgboost.DMatrix(rows, label=rows[:, 0]), num_boost_round=2)
    contents = tuple(f"content-{number:07d}" for number in range(CONTENTS))
    bundle = ModelBundle(
        ModelManifest(
            feature_order=(COLLABORATIVE_SCORE,),
            categories={},
            encoder_sha256="e" * 64,
            mapping_version=mapping,
            definitions_sha256="d" * 64,
            snapshot_id=f"bench-{mapping}",
            popular=contents,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            data="simulated",
            metrics={},
        ),
        ranker=bytes(booster.save_raw("ubj")),
        user_factors=np.zeros((users, 4), dtype=np.float32),
        content_factors=np.zeros((CONTENTS, 4), dtype=np.float32),
        content_ids=contents,
    )
    lake.objects.put(bundle.key, bundle.data)
    return bundle.sha256


def read_on(address: str, project: str, users: int, started: Event, stop: Event, out: str) -> None:
    """Read one user every five milliseconds until told to stop; latencies count from when the read was due."""
    reader = OnlineReader(connect(address), ReadPlan.of_features(project, FEATURES))
    views = [view.name for view in VIEWS if view.entity == user]
    random = np.random.default_rng(3)
    took: list[float] = []
    began = time.perf_counter()
    while not stop.is_set():
        due = began + len(took) / READS_PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        user = f"user-{int(random.integers(users)):07d}"
        reader.read(views, {"user_id": [user]}, now_us=to_micros(system_clock())).to_dicts()
        took.append((time.perf_counter() - due) * 1_000)
        if len(took) == 20:
            started.set()
    Path(out).write_text(json.dumps(took))


def measure(users: int, folder: Path) -> dict[str, Any]:
    """Prepare two releases and return seconds, memory and the readers' latencies."""
    server = RedisServer(folder / "redis")
    servers: dict[str, Any] = dict.fromkeys(
        ("redis_green", "redis_blue", "redis_sandbox", "redis_serving", "redis_state"), server.connection_string
    )
    settings = Settings(_env_file=None, home=folder / "home", lake=str(folder / "lake"), **servers)
    lake = Lake(LocalObjects(folder / "lake"), FEATURES)
    context = ReleaseContext(
        settings=settings,
        lake=lake,
        serving=connect(server.connection_string),
        connect=connect,
        clock=system_clock,
        operator="benchmark",
    )
    result: dict[str, Any] = {"users": users}
    try:
        make_lake(lake, users, system_clock())
        result["memory_before_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wanted = [
            NewRelease(routes=routes_of(dict.fromkeys(Kind, make_model(lake, mapping, users))), why="bench")
            for mapping in (1, 2)
        ]
        began = time.perf_counter()
        first = prepare(context, wanted[0])
        result["fill_alone_seconds"] = time.perf_counter() - began
        check(context, first.id)
        switch(context, first.id, why="bench", force="no worker is part of this benchmark")
        spawn = multiprocessing.get_context("spawn")
        started, stop, out = spawn.Event(), spawn.Event(), str(folder / "latencies.json")
        address = settings.connection(first.colour)
        readers = spawn.Process(target=read_on, args=(address, first.project, users, started, stop, out))
        readers.start()
        started.wait(30)
        quiet = time.perf_counter()
        time.sleep(5)
        before = int((time.perf_counter() - quiet) * READS_PER_SECOND)
        began = time.perf_counter()
        prepare(context, wanted[1])
        result["fill_beside_readers_seconds"] = time.perf_counter() - began
        stop.set()
        readers.join(30)
        took = json.loads(Path(out).read_text())
        result["latency_ms"] = {
            name: {"p50": statistics.median(part), "p99": float(np.percentile(part, 99)), "reads": len(part)}
            for name, part in (("before", took[20 : 20 + before]), ("during", took[20 + before :]))
        }
        result["memory_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        result["redis_mib"] = context.online(first.colour).info("memory")["used_memory"] / 2**20
    finally:
        server.stop()
    return result


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--users", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments.users, Path(folder))
    rate = {name: found["users"] / found[f"fill_{name}_seconds"] for name in ("alone", "beside_readers")}
    before, during = found["latency_ms"]["before"], found["latency_ms"]["during"]
    print(
        pl.DataFrame(
            {
                "fill of both daily views, mapping and streamed views": ["alone", "beside 200 reads/s"],
                "seconds": [f"{found['fill_alone_seconds']:.1f}", f"{found['fill_beside_readers_seconds']:.1f}"],
                "users/s": [f"{rate['alone']:,.0f}", f"{rate['beside_readers']:,.0f}"],
            }
        )
    )
    print(
        f"{found['users']:,} users; reads before p50 {before['p50']:.2f} ms, p99 {before['p99']:.2f} ms; during p50 "
        f"{during['p50']:.2f} ms, p99 {during['p99']:.2f} ms ({during['reads']:,} reads); filling process at most "
        f"{found['memory_peak_mib']:,.0f} MiB ({found['memory_before_mib']:,.0f} MiB after making the lake), Redis "
        f"{found['redis_mib']:,.0f} MiB for two colours"
    )
    keep(found)


if __name__ == "__main__":
    main()
