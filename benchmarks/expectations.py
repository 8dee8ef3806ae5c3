"""Measures how many rows a second expectations check, and whether memory stays bounded.

`python benchmarks/expectations.py [--rows 1000000]` runs the suite of `biometrics` over made-up batches that are never held
together. The peer is the same batches read and dropped.
"""

import argparse
import resource
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import _of_tests  # noqa: F401
import numpy as np
import polars as pl
import pyarrow as pa
from _results import keep

from stillpoint.dtypes import DType
from stillpoint.features.columns import feature_columns
from tests.support.wellness import BIOMETRICS
from validation.batches import BATCH_ROWS
from validation.expectations import validate
from validation.suites import view_suite

AT = datetime(2026, 3, 1, tzinfo=UTC)


def batches(rows: int) -> Iterator[pa.Table]:
    """Yield rows within the declared ranges, each of its own user and second."""
    random = np.random.default_rng(7)
    schema = feature_columns(BIOMETRICS)
    for start in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - start)
        event = np.datetime64(AT.replace(tzinfo=None), "us") + np.arange(start, start + count).astype("timedelta64[s]")
        columns = {
            "user_id": [f"u{n}" for n in range(start, start + count)],
            "event_timestamp": event,
            "created_timestamp": event,
        }
        for feature in BIOMETRICS:
            low = feature.minimum or 0.0
            values = {
                DType.INT64: int(low) + random.integers(0, 50, count),
                DType.BOOL: random.random(count) < 0.5,
            }.get(feature.dtype, low + random.random(count))
            columns[feature.name] = values
        yield pa.table(columns).cast(schema)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    began = time.perf_counter()
    read = sum(table.num_rows for table in batches(rows))
    alone, idle = time.perf_counter() - began, peak_mib()
    validate(view_suite(BIOMETRICS), batches(1_000), at=AT + timedelta(days=1))  # imports and first use
    began = time.perf_counter()
    found = validate(view_suite(BIOMETRICS), batches(rows), at=AT + timedelta(days=1))
    seconds = time.perf_counter() - began - alone
    figures = {
        "": ["batches made and dropped", "batches validated"],
        "seconds": [round(alone, 1), round(seconds, 1)],
        "rows/s": [round(read / alone), round(found.rows / max(seconds, 1e-9))],
        "peak MiB": [round(idle), round(peak_mib())],
    }
    print(pl.DataFrame(figures))
    keep(figures)
    print(f"{found.rows:,} rows, {len(found.findings)} expectations, {'green' if found.passed else 'RED'}")


if __name__ == "__main__":
    main()
