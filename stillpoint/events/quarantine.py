"""Rows of the lake's `quarantine/`: records that are not valid events, with the field at fault and the reason."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import pyarrow as pa

from stillpoint.clock import to_micros
from stillpoint.events.types import QUARANTINE_COLUMNS
from stillpoint.lake.commits import Commit
from stillpoint.lake.tables import Lake


class QuarantineRow(NamedTuple):
    """One row, in the order of `QUARANTINE_COLUMNS`. `field` is None when no single field is at fault."""

    arrived_us: int
    shard: str
    sequence: str
    partition_key: str
    field: str | None
    reason: str
    payload: bytes


def quarantine_table(rows: Sequence[QuarantineRow]) -> pa.Table:
    """Return rows as a table of the lake's `quarantine/`."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(QUARANTINE_COLUMNS)
    return pa.Table.from_arrays(
        [pa.array(values, field.type) for values, field in zip(columns, QUARANTINE_COLUMNS, strict=True)],
        schema=QUARANTINE_COLUMNS,
    )


def quarantine_rejected(lake: Lake, rejected: Sequence[tuple[bytes, str | None, str]], *, at: datetime) -> None:
    """Commit rejected (payload, field, reason) records that never entered the event stream."""
    writer = f"rejected-{uuid.uuid4().hex[:12]}"
    arrived_us = to_micros(at)
    rows = [
        QuarantineRow(arrived_us, "http", f"{writer}-{number}", "", field, reason, payload)
        for number, (payload, field, reason) in enumerate(rejected)
    ]
    file = lake.write("quarantine", at.date(), writer, quarantine_table(rows))
    lake.commit(Commit(writer=writer, sequence=0, at=at, files=(file,)))
