"""The bytes that every declared view has in Redis, and the digest of its read plan."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from stillpoint.stores.reading.plan import ReadPlan
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import encode_rows
from tests.support.wellness import FEATURES, VIEWS

GOLDEN = Path(__file__).with_name("redis_bytes.json")


def test_redis_bytes_of_every_declared_view_are_as_recorded(request: pytest.FixtureRequest) -> None:
    """A difference would orphan every stored value."""
    if request.config.getoption("--rewrite-golden", default=False):
        GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
    assert golden() == json.loads(GOLDEN.read_text())


def golden() -> dict[str, object]:
    at = datetime(2026, 11, 21, 8, 30, 0, 250000, tzinfo=UTC)
    result: dict[str, object] = {}
    for view in VIEWS:
        layout = ViewLayout.of(view)
        samples = {"INT64": 300, "DOUBLE": 0.25, "BOOL": True, "STRING": "sleep", "FLOAT_LIST": [0.5, -1.0]}
        columns = {column.name: [samples[column.type]] for column in (*layout.join_keys, *layout.features)}
        table = pa.table(columns | {"event_timestamp": [at], "created_timestamp": [at]})
        rows = encode_rows(layout, table, "stillpoint_green")
        result[view.name] = {
            "key": rows.keys[0].hex(),
            layout.event_field.decode(): rows.events[0].hex(),
            layout.created_field.decode(): rows.created[0].hex(),
            **{
                f"{hash_field.hex()} {column.name}": values[0].hex()
                for hash_field, column, values in zip(layout.fields, layout.features, rows.values, strict=True)
            },
        }
    return {"views": result, "read_plan_sha256": ReadPlan.of_features("stillpoint_green", FEATURES).sha256}
