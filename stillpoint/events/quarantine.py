"""Keeps events that a service rejected in the lake's quarantine."""

import uuid
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa

from stillpoint.events.types import QUARANTINE_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake


def quarantine_rejected(lake: Lake, rejected: Sequence[tuple[bytes, str | None, str]], *, at: datetime) -> None:
    """Commit rejected (payload, field, reason) records that never entered the event stream."""
    count = len(rejected)
    writer = f"rejected-{uuid.uuid4().hex[:12]}"
    table = pa.table(
        {
            "arrived_at": pa.array([at] * count, QUARANTINE_COLUMNS.field("arrived_at").type),
            "shard": ["http"] * count,
            "sequence": [f"{writer}-{number}" for number in range(count)],
            "partition_key": [""] * count,
            "field": pa.array([field for _, field, _ in rejected], pa.string()),
            "reason": [reason for _, _, reason in rejected],
            "payload": pa.array([payload for payload, _, _ in rejected], pa.binary()),
        }
    )
    file = lake.write("quarantine", at.date(), writer, table)
    lake.commit(Commit(writer=writer, sequence=0, at=at, files=(file,)))
