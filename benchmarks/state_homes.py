"""Compares the homes in which a stream can keep its state of each user.

    python benchmarks/state_homes.py [--users N] [--big N] [--small N] [--homes redis group_state value_state]

The same recorded micro-batches, the same feature code and the same Spark on two cores, with each user's state in Redis (the
receiver's way), in Spark's applyInPandasWithState and in Spark's transformWithStateInPandas, both over RocksDB. Each home has
processes of its own: one that works off big and small micro-batches, and a second that goes on from there. Neither the lake
nor the online store is written. All homes must give the same rows. Prints a table and one JSON line; asserts nothing else.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _results import keep
from features import recording

from stillpoint.clock import system_clock, to_micros
from stillpoint.local.redis_server import RedisServer

HERE = Path(__file__).parent
HOMES = ("redis", "group_state", "value_state")
BIG, SMALL = 20_000, 500
SCHEMA = "shard string, sequence string, partition_key string, arrived_us long, data binary"
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def write_batches(folder: Path, users: int, sizes: list[int]) -> None:
    """Write one file per micro-batch, in order of their modification, as Spark's file source reads them."""
    folder.mkdir(parents=True)
    # The recording ends now: states are forgotten by the time of their events.
    seconds = sum(sizes) // 500 + 1
    start_us = to_micros(system_clock() - timedelta(seconds=seconds))
    records = recording(sum(sizes), users, active=users, start_us=start_us)
    first = 0
    for number, size in enumerate(sizes):
        own = records[first : first + size]
        table = pa.table(
            {
                "shard": ["shard-0"] * size,
                "sequence": [str(first + index) for index in range(size)],
                "partition_key": [json.loads(payload)["user_id"] for payload, _ in own],
                "arrived_us": pa.array([arrived for _, arrived in own], pa.int64()),
                "data": pa.array([payload for payload, _ in own], pa.binary()),
            }
        )
        path = folder / f"{number:06d}.parquet"
        pq.write_table(table, path)
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
        first += size


def child(home: str, folder: Path, batches: int, port: int) -> None:
    """Work off what lies in the folder, until that many micro-batches are done; print a JSON line."""
    began = time.monotonic()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    from _state_home import COUNTED, TRAVELLING, InValueState, arrived, client, in_group_state, in_redis

    from ingestion.spark import spark_session
    from ingestion.state_store import StateStore
    from stillpoint.settings import Settings

    settings = Settings(_env_file=None, home=folder)  # type: ignore[call-arg]
    session = spark_session(settings, home, master="local[2]")
    session.conf.set("spark.sql.streaming.stateStore.providerClass", ROCKSDB)
    session.conf.set("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled", "true")
    session.conf.set("spark.sql.streaming.numRecentProgressUpdates", "1000")
    records = session.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(str(folder / "batches"))
    grouped = records.groupBy("partition_key")
    if home == "group_state":
        records = grouped.applyInPandasWithState(
            in_group_state, TRAVELLING, "data binary", "update", "ProcessingTimeTimeout"
        )
    elif home == "value_state":
        records = grouped.transformWithStateInPandas(InValueState(), TRAVELLING, "Update", "ProcessingTime")
    done: list[tuple[int, int]] = []
    spent: list[float] = []
    finished = threading.Event()
    address = ("127.0.0.1", port)

    def process(frame: Any, number: int) -> None:
        if home == "redis":
            states = StateStore(client(address), "bench")
            instance = states.instance()

            def work(parts: Any) -> Any:
                return in_redis(parts, address, number)

            rows = frame.repartition(2, "partition_key").mapInArrow(work, COUNTED).collect()
            states.require(instance)
            states.mark(number)
        else:
            rows = frame.mapInArrow(arrived, COUNTED).collect()
        if not rows:
            return
        done.append((sum(row.rows for row in rows), sum(row.digest for row in rows)))
        spent.append(cpu_seconds())
        if len(done) == batches:
            finished.set()

    ready = time.monotonic()
    query = (
        records.writeStream.foreachBatch(process)
        .outputMode("update")
        .option("checkpointLocation", str(folder / "checkpoint"))
        .start()
    )
    while not finished.wait(0.01):
        if not query.isActive:
            raise query.exception() or RuntimeError("the query ended by itself")
    first_done = time.monotonic()
    while sum(1 for progress in query.recentProgress if progress["numInputRows"]) < batches:
        time.sleep(0.01)
    worked = [progress for progress in query.recentProgress if progress["numInputRows"]]
    operators = worked[-1]["stateOperators"]
    query.stop()
    result = {
        "batches": [(one["numInputRows"], one["durationMs"]["triggerExecution"] / 1_000) for one in worked],
        "stages": {name: value / 1_000 for name, value in worked[-1]["durationMs"].items()},
        "rows": sum(rows for rows, _ in done),
        "digest": sum(digest for _, digest in done),
        "cpu_after_first": spent[-1] - spent[0],
        "spark_seconds": ready - began,
        "query_seconds": first_done - ready,
        "operator_memory": sum(one["memoryUsedBytes"] for one in operators),
        "operator_rows": sum(one["numRowsTotal"] for one in operators),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def family(pid: int) -> list[psutil.Process]:
    """Return a process with all that it started."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds() -> float:
    """Return what this process, Java and the Python workers have spent."""
    return sum(sum(one.cpu_times()[:2]) for one in family(os.getpid()))


def run_child(home: str, folder: Path, batches: int, port: int) -> dict[str, Any]:
    """Run one process of a home to its end and return what it measured, with its family's peak memory."""
    command = [sys.executable, __file__, "--child", home, str(folder), str(batches), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, sum(one.memory_info().rss for one in family(process.pid)))
        time.sleep(0.1)
    assert process.stdout is not None
    output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{home}: the process ended with {process.returncode}")
    return {**json.loads(output.splitlines()[-1]), "memory": peak}


def measure(home: str, recorded: Path, folder: Path, redis: RedisServer, known: int) -> dict[str, Any]:
    """Measure one home."""
    files = sorted(recorded.iterdir())
    (folder / "batches").mkdir(parents=True)
    for file in files[:-1]:
        shutil.copy2(file, folder / "batches")
    client = redis.client()
    empty = client.info("memory")["used_memory"]
    whole = run_child(home, folder, len(files) - 1, redis.port)
    redis_cpu = sum(psutil.Process(redis.pid).cpu_times()[:2])
    stored = tree_bytes(folder / "checkpoint" / "state")
    if home == "redis":
        stored = client.info("memory")["used_memory"] - empty
    shutil.copy2(files[-1], folder / "batches")
    again = run_child(home, folder, 1, redis.port)
    timed = whole["batches"][1:]
    big = [seconds for size, seconds in timed if size == BIG]
    small = sorted(seconds for size, seconds in timed if size == SMALL)
    return {
        "home": home,
        "events_per_second": round(BIG * len(big) / sum(big)),
        "big_batch_seconds": round(sum(big) / len(big), 3),
        "small_batch_seconds_p50": round(small[len(small) // 2], 3),
        "small_batch_seconds_max": round(small[-1], 3),
        "restart_process_seconds": round(again["spark_seconds"] + again["query_seconds"], 2),
        "restart_query_seconds": round(again["query_seconds"], 2),
        "stored_bytes_per_user": round(stored / known),
        "memory_gb": round(whole["memory"] / 1e9, 2),
        "redis_gb": round(psutil.Process(redis.pid).memory_info().rss / 1e9, 2) if home == "redis" else 0.0,
        "cpu_seconds_per_1000_events": round(whole["cpu_after_first"] / sum(size for size, _ in timed) * 1_000, 3),
        "redis_cpu_seconds_per_1000_events": round(redis_cpu / sum(size for size, _ in whole["batches"]) * 1_000, 3),
        "rows": whole["rows"] + again["rows"],
        "digest": whole["digest"] + again["digest"],
        "stages_of_last_batch": whole["stages"],
        "operator_bytes_per_user": round(whole["operator_memory"] / known) if home != "redis" else None,
    }


def tree_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=4_000)
    parser.add_argument("--big", type=int, default=1, help=f"micro-batches of {BIG} events")
    parser.add_argument("--small", type=int, default=10, help=f"micro-batches of {SMALL} events")
    parser.add_argument("--homes", nargs="+", choices=HOMES, default=HOMES)
    parser.add_argument("--child", nargs=4, metavar=("HOME", "FOLDER", "BATCHES", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        home, folder, batches, port = arguments.child
        child(home, Path(folder), int(batches), int(port))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The first micro-batch starts the workers and is not timed; the last is for the second process.
        sizes = [2_000, *[BIG] * arguments.big, *[SMALL] * arguments.small, SMALL]
        write_batches(folder / "recorded", arguments.users, sizes)
        results = []
        for home in arguments.homes:
            redis = RedisServer(folder / f"{home}-redis")
            try:
                results.append(measure(home, folder / "recorded", folder / home, redis, arguments.users))
            finally:
                redis.stop()
            show(results[-1])
    same = len({(one["rows"], one["digest"]) for one in results}) == 1
    print(f"all homes gave the same rows: {same}")
    keep({"users": arguments.users, "same_rows": same, "homes": results})


def show(result: dict[str, Any]) -> None:
    """Print a home's figures."""
    print(f"{result['home']}:")
    for name, value in result.items():
        if name not in ("home", "stages_of_last_batch"):
            print(f"  {name:>26}: {value}")


if __name__ == "__main__":
    main()
