"""Measures time and memory of a training run, from the stored snapshot to the model's bytes.

`python benchmarks/training_run.py [--rows 1000000] [--users 20000]` prints a table and writes JSON (`--json PATH`). The rows
are random in the snapshot's own columns, with successes that depend on some of them. Each run is a process of its own:
`train` as the command runs it (read and verify the snapshot, both models, baselines, evaluation, the final fit), and
beside it a bare XGBoost fit of the same rows, which is what one would write by hand.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import _of_tests  # noqa: F401
import numpy as np
import pyarrow as pa
from _results import keep

from stillpoint.app.feature_set import RANKER_SERVICE
from stillpoint.app.load import load_app
from stillpoint.clock import from_micros, to_micros
from stillpoint.dtypes import EMBEDDING_LENGTH, DType
from stillpoint.events.recorded import event_columns
from stillpoint.events.types import EventType, Verdict
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import snapshot_rows
from stillpoint.lake.objects import LocalObjects
from stillpoint.lake.tables import Lake
from stillpoint.snapshot_definition import LabelDefinition
from stillpoint.snapshots import SnapshotManifest, load_snapshot, stored_rows
from stillpoint.vector_columns import pack_vectors
from tests.support.wellness import FEATURES, SERVICES
from training import ranker
from training.choice_rows import ChoiceScores
from training.snapshot import definitions_sha256
from training.train import train

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, LIST, CONTENTS = 30, 10, 1_000
SNAPSHOT = "s" + "0" * 16
MICROS = DAYS * 86_400_000_000


def make_rows(count: int, users: int, seed: int) -> pa.Table:
    """Return random rows in the columns of a snapshot, in lists of ten, in the order of time. A tenth is null."""
    random = np.random.default_rng(seed)
    lists = np.repeat(np.arange((count + LIST - 1) // LIST), LIST)[:count]
    moments = np.sort(random.integers(0, MICROS, lists[-1] + 1))[lists] + to_micros(START)
    user_numbers = random.integers(0, users, lists[-1] + 1)[lists]
    columns: dict[str, pa.Array] = {
        "recommendation_id": pa.array([f"r{number:09d}" for number in lists]),
        "user_id": pa.array([f"user-{number:07d}" for number in user_numbers]),
        "content_id": pa.array([f"content-{number:05d}" for number in random.integers(0, CONTENTS, count)]),
        "event_timestamp": pa.array(moments).cast(pa.timestamp("us", tz="UTC")),
        "kind": pa.array(["home"] * count),
        "position": pa.array(np.arange(count) % LIST),
    }
    utility = np.zeros(count)
    features = [feature for view in SERVICES[RANKER_SERVICE] for feature in view] + [
        one.feature for one in FEATURES.request_features
    ]
    for place, feature in enumerate(one for one in features if one.dtype is not DType.EMBEDDING):
        missing = random.random(count) < 0.1
        if feature.dtype is DType.STRING:
            words = np.array(["one", "two", "three", "four", "new"], dtype=object)
            columns[feature.name] = pa.array(words[random.integers(0, 5, count)], mask=missing)
            continue
        values = random.random(count)
        if place % 3 == 0:
            utility += np.where(missing, 0, values - 0.5)
        columns[feature.name] = pa.array(values, mask=missing)
    for feature in features:
        if feature.dtype is DType.EMBEDDING:
            known = random.normal(size=(CONTENTS, EMBEDDING_LENGTH)).astype(np.float32)
            codes = pa.array(random.integers(0, CONTENTS, count).astype(np.int32))
            columns[feature.name] = pa.DictionaryArray.from_arrays(codes, pack_vectors(known).dictionary)
    chance = 1 / (1 + np.exp(1.5 - 2 * utility))
    columns["label"] = pa.array((random.random(count) < chance).astype(np.int8))
    return pa.table(columns)


def make_plays(lake: Lake, count: int, users: int, seed: int) -> None:
    """Commit `count` completed plays to the lake's events, spread over the time of the rows."""
    random = np.random.default_rng(seed + 1)
    happened = pa.array(np.sort(random.integers(0, MICROS, count)) + to_micros(START)).cast(pa.timestamp("us", "UTC"))
    given: dict[str, pa.Array] = {
        "event_id": pa.array([f"e{number}" for number in range(count)]),
        "play_id": pa.array([f"p{number}" for number in range(count)]),
        "user_id": pa.array([f"user-{number:07d}" for number in random.integers(0, users, count)]),
        "content_id": pa.array([f"content-{number:05d}" for number in random.integers(0, CONTENTS, count)]),
        "type": pa.array([EventType.CONTENT_COMPLETE.value] * count),
        "verdict": pa.array([Verdict.ON_TIME.value] * count),
        "event_timestamp": happened,
        "arrived_at": happened,
    }
    for field in event_columns(load_app("feature_repo").events):
        if field.name not in given:
            given[field.name] = pa.nulls(count, field.type) if field.nullable else pa.array(["0"] * count)
    table = pa.table(given)
    file = lake.write("events", START.date(), "benchmark", table)
    lake.commit(Commit(writer="benchmark", sequence=0, at=START, files=(file,)))


def make_lake(folder: Path, *, rows: int, users: int, seed: int = 7) -> None:
    """Write the snapshot and the plays."""
    lake = Lake(LocalObjects(folder), FEATURES)
    make_plays(lake, rows // 4, users, seed)
    table = make_rows(rows, users, seed)
    data, digest = stored_rows(table)
    manifest = SnapshotManifest(
        id=SNAPSHOT,
        feature_service=RANKER_SERVICE,
        first=None,
        cutoff=from_micros(to_micros(START + timedelta(days=DAYS))),
        rows=table.num_rows,
        positives=int(np.asarray(table["label"]).sum()),
        columns={field.name: str(field.type) for field in table.schema},
        definitions_sha256=definitions_sha256(FEATURES),
        encoder_sha256="0" * 64,
        label=LabelDefinition(),
        data="simulated",
        rows_sha256=digest,
    )
    lake.objects.put(snapshot_rows(f"snapshots/{SNAPSHOT}", 0), data)
    lake.objects.put(f"snapshots/{SNAPSHOT}/manifest.json", manifest.model_dump_json().encode())


def run(what: str, folder: Path) -> dict[str, Any]:
    """Do the work in this process; return its seconds, by step, and this process's greatest memory."""
    steps: list[tuple[str, float]] = [("read the snapshot", time.perf_counter())]

    def step(name: str) -> None:
        steps.append((name, time.perf_counter()))

    lake = Lake(LocalObjects(folder), FEATURES)
    if what == "train":
        train(lake, load_snapshot(lake, SNAPSHOT), mapping_version=1, seed=7, progress=step)
    else:
        rows = load_snapshot(lake, SNAPSHOT).rows
        step("matrix")
        labels = rows["label"].to_numpy().astype(np.float32)
        columns = ranker.ModelColumns.of(FEATURES)
        matrix = ranker.matrix_of(
            rows, columns, ChoiceScores(*np.zeros((3, rows.num_rows))), ranker.categories_of(rows, columns)
        )
        split = ranker.split_by_time(rows["event_timestamp"].cast(pa.int64()).to_numpy())
        step("fit")
        stop = (matrix[split.stop], labels[split.stop])
        ranker.train_ranker(matrix[split.train], labels[split.train], columns, seed=7, stop=stop)
    step("end")
    taken: dict[str, float] = {}
    for (name, begun), (_, ended) in pairwise(steps):
        taken[name] = taken.get(name, 0.0) + ended - begun
    return {
        "seconds": steps[-1][1] - steps[0][1],
        "steps": taken,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--run", choices=("train", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(options.run, options.folder)))
        return
    found: dict[str, Any] = {"rows": options.rows}
    with tempfile.TemporaryDirectory() as name:
        make_lake(Path(name), rows=options.rows, users=options.users)
        for what in ("bare", "train"):
            command = [sys.executable, __file__, "--run", what, "--folder", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[what] = json.loads(done.stdout.splitlines()[-1])
    for what, label in (("bare", "one bare XGBoost fit"), ("train", "stillpoint train")):
        print(f"{label:32} {found[what]['seconds']:8.1f} s {found[what]['peak_mb']:8.0f} MB")
        for step, seconds in found[what]["steps"].items():
            print(f"    {step:28} {seconds:8.1f} s")
    print(f"{'times the bare fit':32} {found['train']['seconds'] / found['bare']['seconds']:8.2f} ×")
    keep(found)


if __name__ == "__main__":
    main()
