"""Reads a source's rows in a time range, and each entity's latest row, in bounded memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl
import pyarrow as pa

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.chunks import Chunk, as_arrow
from stillpoint.stores.history.point_in_time import UNKNOWN
from stillpoint.stores.history.sources import SourceTable, utc_micros

_EVENT, _CREATED, _ROW, _WRONG = "__event", "__created", "__row", "__wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """The columns to read from a source, by the source's own names, and the range of event times in microseconds.

    `types` are declared by the view named `view`; a source that is read without a view keeps its own types.
    """

    keys: tuple[str, ...]
    features: tuple[str, ...]
    event: str
    created: str | None
    first: int | None
    last: int | None
    view: str | None = None
    types: Mapping[str, pa.DataType] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The columns of the result, in order."""
        return list(dict.fromkeys([*self.keys, *self.features, self.event, *([self.created] if self.created else [])]))


def every_column(pull: Pull, source: SourceTable) -> Pull:
    """Return a pull of all columns, which is what Feast means by naming no feature (for a view with a function)."""
    return replace(pull, features=tuple(source.schema.names))


def open_pull(source: SourceTable, pull: Pull) -> SourceTable:
    """Return the source with the types that the pull's view declares.

    Raises:
        InvalidInput: the source lacks a column; names it and the source.
    """
    check_columns_there(source, pull.columns)
    return source.towards(pull.types, f"source {source.name!r}" if pull.view is None else f"view {pull.view!r}")


def check_columns_there(source: SourceTable, columns: Sequence[str]) -> None:
    """Refuse a source that lacks a column.

    Raises:
        InvalidInput: names the column and the source.
    """
    for column in columns:
        if column not in source.schema.names:
            raise InvalidInput(
                f"source {source.name!r} at {source.path} has no column {column!r}; it has {', '.join(source.schema.names)}"
            )


def all_rows(source: SourceTable, pull: Pull, *, chunk_rows: int) -> pa.Table:
    """Return every row in the range (both ends included), in the source's order."""
    source = open_pull(source, pull)
    parts = []
    for chunk in source.chunks(chunk_rows):
        frame = _in_range(chunk, pull, source.name).collect()
        numbers = frame[_ROW].to_numpy() if _ROW in frame.columns else None
        parts.append(chunk.in_wanted_types(frame, pull.columns, numbers).select(pull.columns))
    return _to_arrow(pl.concat(parts), source.schema)


def newest_event(source: SourceTable, event: str, *, chunk_rows: int) -> int | None:
    """Return the greatest event time (microseconds), None if there is none."""
    check_columns_there(source, [event])
    found: int | None = None
    for chunk in source.chunks(chunk_rows):
        frame = chunk.scan([event])
        micros = utc_micros(event, frame.collect_schema()[event], f"source {source.name!r}")
        newest = frame.select(micros.max()).collect().item()
        found = newest if found is None or (newest is not None and newest > found) else found
    return found


def latest_rows(source: SourceTable, pull: Pull, *, chunk_rows: int, entities_at_once: int) -> Iterator[pa.Table]:
    """Yield each entity's latest row in the range: the greatest (event, created), the later stored if both are equal.

    Rows with a null join key or event time are left out. Chunks are reduced one by one; a source of more rows than
    `entities_at_once` is processed in partitions of its entities, so that memory is bounded by one chunk and one
    partition's latest rows.

    Raises:
        InvalidInput: a column is missing, or a value of a latest row does not fit the type that the view declares.
    """
    source = open_pull(source, pull)
    partitions = max(1, -(-source.rows // entities_at_once)) if pull.keys else 1
    for partition in range(partitions):
        kept: pl.DataFrame | None = None
        for chunk in source.chunks(chunk_rows):
            found = candidates(chunk, pull, source.name, (partition, partitions))
            kept = found if kept is None else merge_candidates([kept, found], pull)
        if kept is not None and (kept.height or partition == 0):
            yield latest_table(kept, pull, source.schema)


def candidates(chunk: Chunk, pull: Pull, source: str, partition: tuple[int, int] = (0, 1)) -> pl.DataFrame:
    """Return each entity's latest row within one chunk, in the types wanted; `merged` makes one of the chunks.

    A value that does not fit its type is marked, and refused by `latest_table` only if its row is the latest of all chunks.
    """
    frame = _in_range(chunk, pull, source)
    if chunk.must_convert(pull.keys):
        # Convert before comparing: another file may hold the same entity's key in another type.
        rows = frame.collect()
        frame = chunk.in_wanted_types(rows, pull.keys, rows[_ROW].to_numpy()).lazy()
    if pull.keys:
        frame = frame.filter(pl.all_horizontal(pl.col(key).is_not_null() for key in pull.keys))
    if partition[1] > 1:
        frame = frame.filter(pl.struct(pull.keys).hash() % partition[1] == partition[0])
    found = _newest(frame, pull).collect()
    if not chunk.must_convert(pull.columns):
        return found.with_columns(pl.lit(None, dtype=pl.String).alias(_WRONG))
    columns = [name for name in pull.columns if name not in pull.keys]
    made, wrong = chunk.converted(found, columns, found[_ROW].to_numpy())
    told = pl.Series(_WRONG, [wrong.get(row) for row in range(made.height)], dtype=pl.String)
    return made.drop(_ROW).with_columns(told)


def merge_candidates(frames: Sequence[pl.DataFrame], pull: Pull) -> pl.DataFrame:
    """Return each entity's latest row among chunks' candidates, given in the chunks' order."""
    return _newest(pl.concat(frames).lazy(), pull).collect()


def latest_table(frame: pl.DataFrame, pull: Pull, schema: pa.Schema) -> pa.Table:
    """Return the latest rows of all chunks in the types wanted.

    Raises:
        InvalidInput: one of them holds a value that does not fit; names view, column, file, row and value.
    """
    wrong = frame[_WRONG].drop_nulls()
    if len(wrong):
        raise InvalidInput(str(wrong[0]))
    return _to_arrow(frame.select(pull.columns), schema)


def _in_range(chunk: Chunk, pull: Pull, source: str) -> pl.LazyFrame:
    """Return the rows within the range and their times in microseconds; with their numbers where types must change."""
    where = f"source {source!r}"
    frame = chunk.scan(pull.columns, _ROW if chunk.must_convert(pull.columns) else None)
    types = frame.collect_schema()
    frame = frame.with_columns(utc_micros(pull.event, types[pull.event], where).alias(_EVENT))
    keep = pl.col(_EVENT).is_not_null()
    if pull.first is not None:
        keep &= pl.col(_EVENT) >= pull.first
    if pull.last is not None:
        keep &= pl.col(_EVENT) <= pull.last
    frame = frame.filter(keep)
    if pull.created:
        created = utc_micros(pull.created, types[pull.created], where).fill_null(UNKNOWN)
        return frame.with_columns(created.alias(_CREATED))
    return frame


def _newest(frame: pl.LazyFrame, pull: Pull) -> pl.LazyFrame:
    """Keep each entity's rows of the greatest event time, of those the ones created last, of those the one stored last."""
    for time in (_EVENT, _CREATED) if pull.created else (_EVENT,):
        newest = pl.col(time).max()
        frame = frame.filter(pl.col(time) == (newest.over(pull.keys) if pull.keys else newest))
    return frame.unique(pull.keys, keep="last", maintain_order=True) if pull.keys else frame.tail(1)


def _to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    names: Sequence[str] = frame.columns
    return pa.table([as_arrow(frame[name], schema.field(name).type) for name in names], names=list(names))
