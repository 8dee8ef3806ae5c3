"""A source's rows in a range of times, and each entity's latest, without holding the source in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa

from stillpoint.errors import InvalidInput
from stillpoint.stores.history.point_in_time import UNKNOWN
from stillpoint.stores.history.sources import Chunk, SourceTable, utc_micros
from stillpoint.stores.history.types import stored_type

_EVENT, _CREATED = "__event", "__created"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """Columns to be read from a source, by the source's own names, and the range of event times (microseconds)."""

    keys: tuple[str, ...]
    features: tuple[str, ...]
    event: str
    created: str | None
    first: int | None
    last: int | None

    @property
    def columns(self) -> list[str]:
        """The columns of the result, in order."""
        return list(dict.fromkeys([*self.keys, *self.features, self.event, *([self.created] if self.created else [])]))


def every_column(pull: Pull, source: SourceTable) -> Pull:
    """Return a pull of all columns: what Feast means when it names no feature, for a view with a function."""
    return replace(pull, features=tuple(source.schema.names))


def check_pull(source: SourceTable, pull: Pull) -> None:
    """Refuse a source that lacks a column.

    Raises:
        InvalidInput: names the column and the source.
    """
    check_columns_there(source, pull.columns)


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
    check_pull(source, pull)
    parts = [_in_range(chunk, pull, source.name).select(pull.columns).collect() for chunk in source.chunks(chunk_rows)]
    return to_arrow(pl.concat(parts, how="vertical_relaxed"), source.schema)


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

    Rows with a null join key or event time belong to nobody and are left out. Chunks are reduced one by one; a source
    of more rows than `entities_at_once` is worked through in partitions of its entities, so that memory is bounded by
    one chunk and one partition's latest rows.
    """
    check_pull(source, pull)
    partitions = max(1, -(-source.rows // entities_at_once)) if pull.keys else 1
    for partition in range(partitions):
        kept: pl.DataFrame | None = None
        for chunk in source.chunks(chunk_rows):
            frame = _readable(chunk, pull, source.name)
            if partitions > 1:
                frame = frame.filter(pl.struct(pull.keys).hash() % partitions == partition)
            found = _newest(frame, pull).collect()
            kept = found if kept is None else merged([kept, found], pull)
        if kept is not None and (kept.height or partition == 0):
            yield to_arrow(kept.select(pull.columns), source.schema)


def candidates(chunk: Chunk, pull: Pull, source: str) -> pl.DataFrame:
    """Return each entity's latest row within one chunk; `merged` makes one of the chunks."""
    return _newest(_readable(chunk, pull, source), pull).collect()


def merged(frames: Sequence[pl.DataFrame], pull: Pull) -> pl.DataFrame:
    """Return each entity's latest row among chunks' candidates, given in the chunks' order."""
    return _newest(pl.concat(frames, how="vertical_relaxed").lazy(), pull).collect()


def _readable(chunk: Chunk, pull: Pull, source: str) -> pl.LazyFrame:
    frame = _in_range(chunk, pull, source)
    return frame.filter(pl.all_horizontal(pl.col(key).is_not_null() for key in pull.keys)) if pull.keys else frame


def _in_range(chunk: Chunk, pull: Pull, source: str) -> pl.LazyFrame:
    where = f"source {source!r}"
    frame = chunk.scan(pull.columns)
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


def to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return a frame in the types of the source."""
    names: Sequence[str] = frame.columns
    return pa.table([stored_type(frame[name], schema.field(name).type) for name in names], names=list(names))
