"""Which rows lie in a range of times, and which is each entity's latest, without holding the source in memory?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from stillpoint.errors import InvalidInput
from stillpoint.stores.offline_types import stored_type
from stillpoint.stores.point_in_time import UNKNOWN, Rows, newest_per_code
from stillpoint.stores.sources import Chunk, SourceTable, utc_micros

_EVENT, _CREATED, _CODE = "__event", "__created", "__code"


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


def check_pull(source: SourceTable, pull: Pull) -> None:
    """Refuse a source that lacks a column.

    Raises:
        InvalidInput: names the column and the source.
    """
    for column in pull.columns:
        if column not in source.schema.names:
            raise InvalidInput(
                f"source {source.name!r} at {source.path} has no column {column!r}; it has {', '.join(source.schema.names)}"
            )


def all_rows(source: SourceTable, pull: Pull, *, chunk_rows: int) -> pa.Table:
    """Return every row in the range (both ends included), in the source's order."""
    check_pull(source, pull)
    parts = [
        _in_range(chunk.read(pull.columns), pull, source.name).select(pull.columns)
        for chunk in source.chunks(chunk_rows)
    ]
    return to_arrow(pl.concat(parts, how="vertical_relaxed"), source.schema)


def latest_rows(source: SourceTable, pull: Pull, *, chunk_rows: int, entities_at_once: int) -> Iterator[pa.Table]:
    """Yield each entity's latest row in the range: the greatest (event, created), the later stored if both are equal.

    Rows with a null join key or event time belong to nobody and are left out. Chunks are reduced one by one; a source
    of more rows than `entities_at_once` is worked through in partitions of its entities, so that memory is bounded by
    one chunk and one partition's latest rows.
    """
    check_pull(source, pull)
    partitions = max(1, -(-source.rows // entities_at_once))
    for partition in range(partitions):
        kept: pl.DataFrame | None = None
        for chunk in source.chunks(chunk_rows):
            frame = _readable(chunk, pull, source.name)
            if partitions > 1 and pull.keys:
                frame = frame.filter(pl.struct(pull.keys).hash() % partitions == partition)
            frame = _newest(frame, pull)
            kept = frame if kept is None else _newest(pl.concat([kept, frame], how="vertical_relaxed"), pull)
        if kept is not None and (kept.height or partition == 0):
            yield to_arrow(kept.select(pull.columns), source.schema)


def candidates(chunk: Chunk, pull: Pull, source: str) -> pl.DataFrame:
    """Return each entity's latest row within one chunk; `merged` makes one of the chunks."""
    return _newest(_readable(chunk, pull, source), pull)


def merged(frames: Sequence[pl.DataFrame], pull: Pull) -> pl.DataFrame:
    """Return each entity's latest row among chunks' candidates, given in the chunks' order."""
    return _newest(pl.concat(frames, how="vertical_relaxed"), pull)


def _readable(chunk: Chunk, pull: Pull, source: str) -> pl.DataFrame:
    frame = _in_range(chunk.read(pull.columns), pull, source)
    return frame.filter(pl.all_horizontal(pl.col(key).is_not_null() for key in pull.keys) if pull.keys else True)


def _in_range(frame: pl.DataFrame, pull: Pull, source: str) -> pl.DataFrame:
    where = f"source {source!r}"
    frame = frame.with_columns(utc_micros(pull.event, frame.schema[pull.event], where).alias(_EVENT))
    keep = pl.col(_EVENT).is_not_null()
    if pull.first is not None:
        keep &= pl.col(_EVENT) >= pull.first
    if pull.last is not None:
        keep &= pl.col(_EVENT) <= pull.last
    frame = frame.filter(keep)
    if pull.created:
        created = utc_micros(pull.created, frame.schema[pull.created], where).fill_null(UNKNOWN)
        return frame.with_columns(created.alias(_CREATED))
    return frame


def _newest(frame: pl.DataFrame, pull: Pull) -> pl.DataFrame:
    if pull.keys:
        # Most history is older than its entity's newest event: leave it out before anything is sorted.
        newest = frame.lazy().group_by(pull.keys).agg(pl.col(_EVENT).max())
        frame = frame.lazy().join(newest, on=[*pull.keys, _EVENT], how="semi", maintain_order="left").collect()
    if not pull.keys:
        codes = np.zeros(frame.height, dtype=np.int64)
    else:
        keys = frame.select(pull.keys)
        codes = (
            keys.join(keys.unique().with_row_index(_CODE), on=pull.keys, how="left", maintain_order="left")[_CODE]
            .cast(pl.Int64)
            .to_numpy()
        )
    created = frame[_CREATED].to_numpy() if pull.created else None
    return frame[newest_per_code(Rows(code=codes, event=frame[_EVENT].to_numpy(), created=created))]


def to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return a frame in the types of the source."""
    names: Sequence[str] = frame.columns
    return pa.table([stored_type(frame[name], schema.field(name).type) for name in names], names=list(names))
