"""Writes what a micro-batch computed: rows into every colour, records and rows as files of the lake. Each can be repeated."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.compute import BatchResult, QuarantinedRecord
from stillpoint.app.records import View
from stillpoint.events.quarantine import QuarantineRow, quarantine_table
from stillpoint.events.recorded import events_table
from stillpoint.lake.commits import CommittedFile
from stillpoint.lake.datasets import by_date, feature_dataset
from stillpoint.lake.tables import Lake
from stillpoint.releases.write_targets import Control
from stillpoint.stores.redis.layout import ViewLayout
from stillpoint.stores.redis.writer import OnlineWriter

Tables = Mapping[str, tuple[View, pa.Table]]
"""The rows of views, by their names."""


class Written(NamedTuple):
    """How many rows of a view a colour got; `place` is `colour/view`."""

    place: str
    rows: int
    newest_event_us: int


def write_online(writers: Mapping[str, OnlineWriter], control: Control, tables: Tables) -> Iterator[Written]:
    """Write rows into each colour whose release reads the view."""
    for target in control.targets:
        for name, (view, table) in tables.items():
            if name in target.views:
                writers[target.project].write(ViewLayout.of(view), table)
                newest = pc.max(table["event_timestamp"]).cast(pa.int64()).as_py()
                yield Written(f"{target.colour}/{name}", table.num_rows, newest)


def write_rows(lake: Lake, name: str, tables: Tables) -> Iterator[CommittedFile]:
    """Write rows as files under `name`, one per view and day."""
    for view, table in tables.values():
        for day, part in by_date(table):
            yield lake.write(feature_dataset(view), day, name, part)


def write_records(lake: Lake, columns: pa.Schema, name: str, result: BatchResult) -> Iterator[CommittedFile]:
    """Write events with their verdicts, and quarantined and isolated records, as files under `name`."""
    if result.events:
        events, verdicts, records = zip(*result.events, strict=True)
        table = events_table(columns, events, verdicts, [r.shard for r in records], [r.sequence for r in records])
        for day, part in by_date(table):
            yield lake.write("events", day, name, part)
    aside = [*result.quarantined, *result.isolated]
    if aside:
        table = quarantine_table([quarantine_row(item) for item in aside])
        for day, part in by_date(table, "arrived_at"):
            yield lake.write("quarantine", day, name, part)


def quarantine_row(item: QuarantinedRecord) -> QuarantineRow:
    """Return a refused record as a row of the lake's `quarantine/`."""
    record = item.record
    return QuarantineRow(
        record.arrived_us,
        record.shard,
        record.sequence,
        record.partition_key,
        item.field,
        item.reason,
        record.data,
    )
