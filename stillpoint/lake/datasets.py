"""The lake's datasets: their names, columns and days, and which of several rows of one moment counts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from stillpoint.app.feature_set import USER_SEQUENCE
from stillpoint.app.records import Origin, View
from stillpoint.events.types import CATALOGUE_COLUMNS, QUARANTINE_COLUMNS, USER_COLUMNS
from stillpoint.features.columns import feature_columns as feature_columns
from stillpoint.served_rows import SERVED_COLUMNS

EVENTS = "events"
"""The dataset whose columns follow from the event types of an app."""

TABLES = "tables/"
"""Where compacted days lie. The only files that are written again at their path; they are replaced whole."""


def feature_dataset(view: View, mapping_version: int | None = None) -> str:
    """Return the dataset that holds a view's rows; the mapping's is one folder per version."""
    if view.origin is Origin.MAPPING:
        if mapping_version is None:
            raise ValueError(f"view {view.name} is stored per mapping version, and none was given")
        return f"mappings/{mapping_version}"
    return f"features/{view.name}"


def snapshot_rows(folder: str, revision: int) -> str:
    """Return the key of a training snapshot's rows; an erasure writes the next revision."""
    return f"{folder}/rows.parquet" if revision == 0 else f"{folder}/rows-{revision}.parquet"


def dataset_columns(dataset: str, views: Iterable[View]) -> pa.Schema | None:
    """Return the columns of a dataset, of which `views` are declared, or None for one that is free in form.

    Those of events follow from an app's event types: `stillpoint.events.recorded.event_columns`.
    """
    fixed = {
        "quarantine": QUARANTINE_COLUMNS,
        "users": USER_COLUMNS,
        "catalogue": CATALOGUE_COLUMNS,
        "served": SERVED_COLUMNS,
    }
    if dataset in fixed:
        return fixed[dataset]
    if dataset.startswith("mappings/"):
        return feature_columns(USER_SEQUENCE)
    for view in views:
        if dataset == f"features/{view.name}":
            return feature_columns(view)
    return None


def is_declared(dataset: str) -> bool:
    """Return whether only Stillpoint writes a dataset."""
    return dataset == EVENTS or dataset.startswith("features/") or dataset_columns(dataset, ()) is not None


@dataclass(frozen=True, slots=True)
class DateRange:
    """Whole UTC days, both ends included; None is open."""

    first: date | None = None
    last: date | None = None

    def __contains__(self, day: date) -> bool:
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)


ALL_DATES = DateRange()


def newest_rows(table: pa.Table, key: str) -> pa.Table:
    """Return one row per (key, event_timestamp): the one with the greatest created_timestamp, ordered by both.

    Replays, backfills and allowed late events leave several rows of one moment; this is the one that counts.
    """
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return (
        frame.lazy()
        .sort(key, "event_timestamp", "created_timestamp", maintain_order=True)
        .unique(subset=[key, "event_timestamp"], keep="last", maintain_order=True)
        .collect()
        .to_arrow()
        .cast(table.schema)
    )


def join_batches(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Join the small batches that a stream's small files give, up to `rows` rows each; empty ones are left out."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if held and count + batch.num_rows > rows:
            yield pa.Table.from_batches(held)
            held, count = [], 0
        if batch.num_rows:
            held.append(batch)
            count += batch.num_rows
    if held:
        yield pa.Table.from_batches(held)


def by_date(table: pa.Table, column: str = "event_timestamp") -> Iterable[tuple[date, pa.Table]]:
    """Split a table by the UTC date of a timestamp column, in order of dates."""
    import pyarrow.compute as pc

    days = pc.floor_temporal(table[column], unit="day").cast(pa.timestamp("us", tz="UTC"))
    found = sorted(value.as_py() for value in pc.unique(days))
    for day in found:
        yield day.date(), table if len(found) == 1 else table.filter(pc.equal(days, pa.scalar(day, type=days.type)))
