"""The lake's rows are checked a bounded number at a time, and not file by file."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa

from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import feature_dataset
from stillpoint.lake.tables import feature_columns
from tests.support.wellness import BIOMETRICS
from validation import batches as module
from validation.batches import batches, newest_batches

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DATASET = feature_dataset(BIOMETRICS)


def committed(lake, files, rows_each):
    for number in range(files):
        at = NOON - timedelta(days=number % 2)
        row = {"user_id": f"u{number}", "event_timestamp": at, "created_timestamp": at, "steps_sum_10m": number}
        table = pa.Table.from_pylist([row] * rows_each, schema=feature_columns(BIOMETRICS))
        file = lake.write(DATASET, at.date(), f"rows-{number}", table)
        lake.commit(Commit(writer="rows", sequence=number, at=NOON, files=(file,)))


def test_rows_of_many_small_files_come_together_and_never_more_than_the_bound(lake, monkeypatch):
    committed(lake, files=10, rows_each=3)
    assert [table.num_rows for table in batches(lake, DATASET)] == [30]
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    found = list(batches(lake, DATASET))
    assert [table.num_rows for table in found] == [6, 6, 6, 6, 6]
    assert {user for table in found for user in table["user_id"].to_pylist()} == {f"u{number}" for number in range(10)}


def test_the_newest_days_come_first_and_only_as_many_rows_as_asked_for(lake):
    committed(lake, files=4, rows_each=5)
    found = list(newest_batches(lake, DATASET, days=2, rows=12))
    assert [table.num_rows for table in found] == [10, 2]
    assert found[0]["event_timestamp"][0].as_py() == NOON
