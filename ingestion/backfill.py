"""Backfill: computes the streamed features of events that the lake holds, with the stream's own code.

Rows are computed per user from all on-time events that can affect them, and one commit makes all of them visible. A row that the
stream or an earlier run has written already comes out equal, so the copy is harmless. With a Spark session, users are spread over executors.
"""

import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.spark import executors_app
from stillpoint.app.load import App, load_app
from stillpoint.app.records import View
from stillpoint.encoder import Encoder, RememberingEncoder, WordLlamaEncoder
from stillpoint.events.recorded import RecordedEvents, event_columns
from stillpoint.features.columns import feature_columns, rows_table
from stillpoint.features.streamed.history import AppHistory
from stillpoint.features.streamed.reach import reach
from stillpoint.lake.commits import Commit
from stillpoint.lake.datasets import DateRange, by_date, feature_dataset
from stillpoint.lake.tables import Lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Progress = Callable[[str, int], None]


def backfill(
    lake: Lake,
    dates: DateRange,
    *,
    at: datetime,
    app: App,
    views: Iterable[View] | None = None,
    encoder: Encoder | None = None,
    spark: "SparkSession | None" = None,
    progress: Progress = lambda view, rows: None,
) -> dict[str, int]:
    """Compute the rows of streamed views (of all, unless given) for whole UTC days. Return the number of rows by view.

    Reads the lake's on-time events, writes `features/<view>/` in one commit. Of a session that began more than a day before the first day, only the
    part within that day is taken into account.
    """
    first = None if dates.first is None else dates.first - reach(app.views) - timedelta(days=1)
    events = lake.read("events", DateRange(first, dates.last), where=pc.field("verdict") == "on_time")
    run = f"{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}"
    files = []
    counts: dict[str, int] = {}
    history = AppHistory(app, encoder or RememberingEncoder(WordLlamaEncoder()))
    where = executors_app(spark, app) if spark is not None else app.where
    for view in app.features.streamed if views is None else views:
        table = _spread(view, events, where, spark) if spark is not None else _rows_of(view, events, history)
        kept = [(day, part) for day, part in by_date(table) if day in dates]
        files += [lake.write(feature_dataset(view), day, f"backfill-{run}", part) for day, part in kept]
        counts[view.name] = sum(part.num_rows for _, part in kept)
        progress(view.name, counts[view.name])
    lake.commit(Commit(writer=f"backfill-{run}", sequence=0, at=at, files=tuple(files)))
    return counts


def _rows_of(view: View, events: pa.Table, history: AppHistory) -> pa.Table:
    wanted = events.filter(pc.is_in(events["type"], pa.array([str(kind) for kind in view.event_types])))
    return rows_table(view, history.rows(view.name, RecordedEvents(history.app.events).on_time(wanted)))


def _spread(view: View, events: pa.Table, app: str, spark: "SparkSession") -> pa.Table:
    """Compute on Spark's executors; all events of one key are on one executor."""
    schema = feature_columns(view)
    # Spark's Arrow exchange knows no zone but the session's, which is UTC, and no nested null marks.
    frame = spark.createDataFrame(_microseconds(events)).repartition(*view.entity.keys)
    form = ", ".join(f"`{field.name}` {_spark_type(field.type)}" for field in schema)

    def compute(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        parts = list(batches)
        if parts:
            history = AppHistory(load_app(app), RememberingEncoder(WordLlamaEncoder()))
            own = _timestamps(pa.Table.from_batches(parts), event_columns(history.app.events))
            yield from _microseconds(_rows_of(view, own, history)).to_batches()

    found = frame.mapInArrow(compute, form).toArrow()
    return _timestamps(found, schema)


_TIMES = ("event_timestamp", "arrived_at", "created_timestamp")


def _microseconds(table: pa.Table) -> pa.Table:
    for name in _TIMES:
        if name in table.schema.names:
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.int64()))
    return table


def _timestamps(table: pa.Table, schema: pa.Schema) -> pa.Table:
    return pa.table({field.name: table[field.name].cast(field.type) for field in schema}, schema=schema)


def _spark_type(kind: Any) -> str:
    if pa.types.is_timestamp(kind) or pa.types.is_int64(kind):
        return "long"
    if pa.types.is_list(kind):
        return f"array<{_spark_type(kind.value_type)}>"
    return {pa.string(): "string", pa.float64(): "double", pa.float32(): "float", pa.bool_(): "boolean"}[kind]
