"""Runs joins and fills on Spark's executors, for data beyond one machine, with the code of the single machine.

Each executor runs that code on a part of the entities: a spine is partitioned by its join keys, a source's chunks are
reduced where they are read and combined by entity. So both give the same rows, ties included.
"""

import io
import pickle
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from stillpoint.spark_code import ship_packages
from stillpoint.stores.history.chunks import Chunk
from stillpoint.stores.history.join import JoinLimits, OpenSource, join_history
from stillpoint.stores.history.latest import Pull, candidates, latest_table, merge_candidates, open_pull
from stillpoint.stores.history.sources import SourceTable
from stillpoint.stores.history.spine import Spine, as_frame
from stillpoint.stores.history.views import ViewRequest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_FORM = "part int, data binary"
_ROW = "__spine_row"


def session() -> "SparkSession":
    """Return the active Spark session, or start one with Spark's own settings. Its executors get this package."""
    from pyspark.sql import SparkSession

    found = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    ship_packages(found, ("stillpoint",))
    return found


def join_on_spark(
    spine: Spine,
    views: Sequence[ViewRequest],
    open_source: OpenSource,
    *,
    cutoff: bool,
    limits: JoinLimits,
    since: int | None,
    parts: int,
) -> pa.Table:
    """Return what `join_history` returns, with each executor joining a part of the spine."""
    dealt = _deal(spine, sorted({key.spine for view in views for key in view.keys}), parts)
    work = _packed(_JoinPart(spine.time_column, tuple(views), open_source, cutoff, limits, since))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        join = pickle.loads(work)
        for part, data in _rows(batches):
            yield _row(part, _bytes_of(join(_table_of(data))))

    rows = [(part, _bytes_of(table)) for part, table in enumerate(dealt) if table.num_rows or part == 0]
    frame = session().createDataFrame(rows, _FORM).repartition(parts, "part").mapInArrow(run, _FORM)
    tables = [_table_of(row.data) for row in frame.collect()]
    # A part without any source row has features of type null; the other parts have the real types.
    joined = pa.concat_tables(tables, promote_options="permissive")
    return joined.sort_by(_ROW).drop_columns([_ROW])


def fill_on_spark(
    source: SourceTable, pull: Pull, write: Callable[[pa.Table], int], *, chunk_rows: int, parts: int
) -> int:
    """Write each entity's latest row from the executors, and return the number of rows. `write` is pickled and sent."""
    source = open_pull(source, pull)
    head = _packed((source.schema, source.name, pull))
    tail = _packed(write)

    def reduce(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        _, name, wanted = pickle.loads(head)
        for number, data in _rows(batches):
            frame = candidates(pickle.loads(data), wanted, name)
            for part, own in enumerate(_split(frame, wanted.keys, parts)):
                if own.height:
                    yield _row(part, pickle.dumps((number, _bytes_of(own.to_arrow()))))

    def finish(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        schema, _, wanted = pickle.loads(head)
        writing = pickle.loads(tail)
        found: dict[int, dict[int, pl.DataFrame]] = {}
        for part, data in _rows(batches):
            number, packed = pickle.loads(data)
            frame = pl.from_arrow(_table_of(packed))
            assert isinstance(frame, pl.DataFrame)
            found.setdefault(part, {})[number] = frame
        for part, frames in sorted(found.items()):
            in_order = [
                frames[number] for number in sorted(frames)
            ]  # of rows with equal times the one stored later counts
            rows = latest_table(merge_candidates(in_order, wanted), wanted, schema)
            yield _row(part, str(writing(rows)).encode())

    chunks: list[Chunk] = list(source.chunks(chunk_rows))
    rows = [(number, pickle.dumps(chunk)) for number, chunk in enumerate(chunks)]
    spark = session()
    reduced = (
        spark.createDataFrame(rows, _FORM).repartition(min(parts, max(1, len(rows))), "part").mapInArrow(reduce, _FORM)
    )
    counted = reduced.repartition(parts, "part").mapInArrow(finish, _FORM)
    return sum(int(bytes(row.data)) for row in counted.collect())


class _JoinPart:
    """Joins one part of the spine on an executor."""

    def __init__(
        self,
        time_column: str,
        views: tuple[ViewRequest, ...],
        open_source: OpenSource,
        cutoff: bool,
        limits: JoinLimits,
        since: int | None,
    ) -> None:
        self._time_column, self._views, self._open = time_column, views, open_source
        self._cutoff, self._limits, self._since = cutoff, limits, since

    def __call__(self, table: pa.Table) -> pa.Table:
        frame = as_frame(table)
        spine = Spine(
            table=table,
            frame=frame,
            time_column=self._time_column,
            times=frame[TIMES].to_numpy(),
        )
        joined = join_history(
            spine, self._views, self._open, cutoff=self._cutoff, limits=self._limits, since=self._since
        )
        return joined.drop_columns([TIMES])


TIMES = "__spine_time"


def _deal(spine: Spine, keys: Sequence[str], parts: int) -> list[pa.Table]:
    """Partition the spine by its join keys; the parts have row numbers and times in microseconds."""
    table = spine.table.append_column(_ROW, pa.array(np.arange(spine.table.num_rows)))
    table = table.append_column(TIMES, pa.array(spine.times))
    present = [key for key in keys if key in spine.frame.columns]
    part = _part_of(spine.frame.select(present), parts) if present else np.zeros(table.num_rows, dtype=np.int64)
    return [table.filter(pa.array(part == number)) for number in range(parts)]


def _split(frame: pl.DataFrame, keys: Sequence[str], parts: int) -> list[pl.DataFrame]:
    if not keys:
        return [frame]
    part = _part_of(frame.select(keys), parts)
    return [frame.filter(pl.Series(part == number)) for number in range(parts)]


def _part_of(keys: pl.DataFrame, parts: int) -> Any:
    """Return each row's part, the same in every process: by CRC-32 of its keys as text."""
    text = keys.select(pl.concat_str(pl.all().cast(pl.String).fill_null(""), separator="\x1f"))
    return np.array([zlib.crc32(value.encode()) % parts for value in text.to_series().to_list()], dtype=np.int64)


def _packed(value: Any) -> bytes:
    from pyspark import cloudpickle

    return bytes(cloudpickle.dumps(value))


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, bytes]]:
    for batch in batches:
        yield from zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)


def _row(part: int, data: bytes) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([part], pa.int32()), pa.array([data], pa.binary())], ["part", "data"])


def _bytes_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _table_of(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(pa.py_buffer(bytes(data))).read_all()
