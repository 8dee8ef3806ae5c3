"""Joins history to a spine, in bounded memory and every spine row exactly once.

First only join keys and times are read; `point_in_time` picks at most one source row per spine row; then the features of
just those rows are gathered. A source larger than a chunk is read in chunks, and one whose keys exceed the memory limit
is processed in partitions of its entities.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from stillpoint.errors import InvalidInput, InvalidSpine
from stillpoint.stores.history.chunks import Chunk, as_arrow
from stillpoint.stores.history.point_in_time import NONE, UNKNOWN, Ints, Rows, as_of
from stillpoint.stores.history.sources import SourceTable, utc_micros
from stillpoint.stores.history.spine import Spine
from stillpoint.stores.history.types import as_key, check_feature_type, refuse_null_items, request_types
from stillpoint.stores.history.views import JoinKey, ViewRequest

_CODE, _EVENT, _CREATED, _ROW = "__code", "__event", "__created", "__row"


class OpenSource(Protocol):
    def __call__(self, view: ViewRequest, first: int | None, last: int) -> SourceTable:
        """Open a view's source for events between two times (microseconds, inclusive; None is open)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinLimits:
    """Memory limits: rows read at a time, and rows whose keys and times are in memory at a time."""

    chunk_rows: int = 2_000_000
    key_rows: int = 20_000_000


def join_history(
    spine: Spine,
    views: Sequence[ViewRequest],
    open_source: OpenSource,
    *,
    cutoff: bool,
    limits: JoinLimits,
    since: int | None = None,
) -> pa.Table:
    """Return the spine's rows, each once and in order, with the features of each view appended as columns.

    The features are those of the entity's newest source row at or before the spine row's time; with `cutoff`, only rows
    created by that time count. Null where there is no such row, or it is older than the view's time-to-live or `since`.

    Raises:
        InvalidSpine: a join key is missing or of another type than the source's, or a feature's name is taken.
        InvalidInput: a source lacks a column or holds another type than the view declares.
    """
    _check_names(spine, views)
    coded: dict[tuple[str, ...], _Entities] = {}
    for view in views:
        names = tuple(key.spine for key in view.keys)
        if names not in coded:
            coded[names] = _Entities.of(spine, view)

    def one(view: ViewRequest) -> pa.Table:
        return _join_view(spine, view, coded[tuple(key.spine for key in view.keys)], open_source, cutoff, limits, since)

    # Sorting and searching release the interpreter lock; two views at a time use two cores and bound the memory.
    with ThreadPoolExecutor(2) as pool:
        joined = list(pool.map(one, views))
    table = spine.table
    for part in joined:
        for field, column in zip(part.schema, part.columns, strict=True):
            table = table.append_column(field, column)
    return table


def _check_names(spine: Spine, views: Sequence[ViewRequest]) -> None:
    taken = dict.fromkeys(spine.table.column_names, "the spine")
    for view in views:
        outputs = [wanted.output for wanted in view.features] + ([view.event_output] if view.event_output else [])
        for output in outputs:
            if output in taken:
                raise InvalidSpine(
                    f"column {output!r} of view {view.view!r} is already a column of {taken[output]}; "
                    "rename it, or ask with full_feature_names=True"
                )
            taken[output] = f"view {view.view!r}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entities:
    """The distinct entities of a spine under some join keys, and each spine row's code (`NONE` with a null key)."""

    frame: pl.DataFrame
    codes: Ints
    columns: tuple[str, ...]

    @classmethod
    def of(cls, spine: Spine, view: ViewRequest) -> "_Entities":
        columns = tuple(key.spine for key in view.keys)
        missing = [column for column in columns if column not in spine.frame.columns]
        if missing:
            raise InvalidSpine(
                f"the spine has no column {missing[0]!r}, a join key of view {view.view!r}; "
                f"it has {', '.join(spine.frame.columns)}"
            )
        if not columns:
            return cls(frame=pl.DataFrame(), codes=np.zeros(spine.frame.height, dtype=np.int64), columns=())
        keys = spine.frame.select(
            pl.col(column).fill_nan(None) if spine.frame.schema[column].is_float() else column for column in columns
        )
        frame = keys.unique().drop_nulls().with_row_index(_CODE)
        codes = keys.join(frame, on=columns, how="left", maintain_order="left")[_CODE]
        return cls(frame=frame, codes=codes.cast(pl.Int64).fill_null(NONE).to_numpy(), columns=columns)

    def named(self, keys: Sequence[JoinKey], found: Mapping[str, pl.DataType], view: str) -> pl.DataFrame:
        """Return the entities under the source's column names and types."""
        named = [as_key(key, self.frame[key.spine], found[key.source], view) for key in keys]
        return pl.DataFrame([self.frame[_CODE], *named])


def _join_view(
    spine: Spine,
    view: ViewRequest,
    entities: _Entities,
    open_source: OpenSource,
    cutoff: bool,
    limits: JoinLimits,
    since: int | None,
) -> pa.Table:
    asked = entities.codes != NONE
    last = int(spine.times.max()) if len(spine.times) else 0
    first = int(spine.times.min()) - view.ttl if view.ttl is not None and len(spine.times) else None
    if since is not None:
        first = since if first is None else max(first, since)
    source = open_source(view, first, last).towards(request_types(view), f"view {view.view!r}")
    check_columns(source, view)
    keys = tuple(key.source for key in view.keys)
    features = tuple(dict.fromkeys(wanted.source for wanted in view.features))
    chunks = list(source.chunks(limits.chunk_rows))
    whole = chunks[0].read(_columns(keys, view, features)) if len(chunks) == 1 else None
    answer = np.full(len(spine.times), NONE, dtype=np.int64)
    events = np.zeros(len(spine.times), dtype=np.int64)
    partitions = max(1, -(-source.rows // limits.key_rows))
    for partition in range(partitions):
        rows, numbers = _read_rows(source, view, entities, chunks, whole, (first, last), (partition, partitions))
        mine = np.flatnonzero(asked & (entities.codes % partitions == partition))
        found = as_of(rows, code=entities.codes[mine], time=spine.times[mine], ttl=view.ttl, cutoff=cutoff)
        hit = found != NONE
        answer[mine[hit]] = numbers[found[hit]]
        events[mine[hit]] = rows.event[found[hit]]
    gathered = _gather(features, chunks, whole, answer)
    if len(chunks) > 1:
        source.verify_unchanged()
    columns = {
        wanted.output: as_arrow(_without_nan(gathered[wanted.source]), source.schema.field(wanted.source).type)
        for wanted in view.features
    }
    for wanted in view.features:
        refuse_null_items(columns[wanted.output], wanted.dtype, f"view {view.view!r}, feature {wanted.feature!r}")
    if view.event_output:
        columns[view.event_output] = pa.array(events, mask=answer == NONE).cast(pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def _without_nan(values: pl.Series) -> pl.Series:
    """Return numbers with null for NaN, as a fill, a push and a read have it."""
    return values.fill_nan(None) if values.dtype.is_float() else values


def check_columns(source: SourceTable, view: ViewRequest) -> None:
    """Refuse a source that lacks a column or holds another type than the view declares.

    Raises:
        InvalidInput: names the view, the column and the source.
    """
    roles = {key.source: "join key" for key in view.keys} | {view.event: "event timestamp"}
    roles |= {view.created: "created timestamp"} if view.created else {}
    roles |= {wanted.source: "feature" for wanted in view.features}
    for column, role in roles.items():
        if column not in source.schema.names:
            raise InvalidInput(
                f"view {view.view!r}: source {source.path} has no column {column!r} ({role}); "
                f"it has {', '.join(source.schema.names)}"
            )
    for wanted in view.features:
        check_feature_type(view.view, wanted, source.types_of(wanted.source), source.path)


def _columns(keys: Sequence[str], view: ViewRequest, features: Sequence[str] = ()) -> list[str]:
    return list(dict.fromkeys([*keys, view.event, *([view.created] if view.created else []), *features]))


def _read_rows(
    source: SourceTable,
    view: ViewRequest,
    entities: _Entities,
    chunks: Sequence[Chunk],
    whole: pl.DataFrame | None,
    between: tuple[int | None, int],
    partition: tuple[int, int],
) -> tuple[Rows, Ints]:
    """Return code, event and created time of the rows that could answer, and their numbers within the source."""
    parts = [
        _coded(frame, view, entities, between, partition) for frame in _key_frames(view, chunks, whole, source.path)
    ]
    frame = pl.concat(parts) if len(parts) > 1 else parts[0]
    return (
        Rows(
            code=frame[_CODE].to_numpy(),
            event=frame[_EVENT].to_numpy(),
            created=frame[_CREATED].to_numpy() if view.created else None,
        ),
        frame[_ROW].to_numpy(),
    )


def _key_frames(
    view: ViewRequest, chunks: Sequence[Chunk], whole: pl.DataFrame | None, path: str
) -> Iterator[pl.DataFrame]:
    """Yield key columns with times in microseconds and row numbers, chunk by chunk."""
    names = [key.source for key in view.keys]
    for chunk in chunks:
        frame = whole if whole is not None else chunk.read(_columns(names, view))
        frame = frame.with_row_index(_ROW, offset=0).with_columns(pl.col(_ROW).cast(pl.Int64) + chunk.start)
        where = f"view {view.view!r}, source {path}"
        times = [utc_micros(view.event, frame.schema[view.event], where).alias(_EVENT)]
        if view.created:
            created = utc_micros(view.created, frame.schema[view.created], where)
            times.append(created.fill_null(UNKNOWN).alias(_CREATED))
        # Take the times first: a join key may be the time column too.
        frame = frame.with_columns(times)
        if chunk.must_convert(names):
            frame = chunk.in_wanted_types(frame, names, frame[_ROW].to_numpy())
        yield frame.select(*dict.fromkeys(names), _EVENT, *([_CREATED] if view.created else []), _ROW)


def _coded(
    frame: pl.DataFrame,
    view: ViewRequest,
    entities: _Entities,
    between: tuple[int | None, int],
    partition: tuple[int, int],
) -> pl.DataFrame:
    """Keep the rows of the spine's entities within a time range, with the entity's code; null keys and times drop out."""
    if any(frame.schema[key.source] == pl.Null for key in view.keys):
        frame = frame.clear().with_columns(pl.lit(None, dtype=pl.UInt32).alias(_CODE))
    elif view.keys:
        named = entities.named(view.keys, frame.schema, view.view)
        frame = frame.join(named, on=[key.source for key in view.keys], how="left", maintain_order="left")
    else:
        frame = frame.with_columns(pl.lit(0, dtype=pl.UInt32).alias(_CODE))
    first, last = between
    keep = pl.col(_CODE).is_not_null() & (pl.col(_EVENT) <= last)
    if first is not None:
        keep &= pl.col(_EVENT) >= first
    if partition[1] > 1:
        keep &= pl.col(_CODE) % partition[1] == partition[0]
    wanted = [_CODE, _EVENT, *([_CREATED] if view.created else []), _ROW]
    return frame.lazy().filter(keep).select(wanted).with_columns(pl.col(_CODE).cast(pl.Int64)).collect()


def _gather(features: Sequence[str], chunks: Sequence[Chunk], whole: pl.DataFrame | None, answer: Ints) -> pl.DataFrame:
    """Return the features of the source rows in `answer`, one row per spine row, null where it is `NONE`."""
    index = pl.Series("i", np.maximum(answer, 0), dtype=pl.UInt32).to_frame().with_columns(found=answer != NONE)
    if whole is not None:
        chosen = index.select(pl.when("found").then("i"))["i"]
        rows = whole.select(pl.col(features).gather(chosen)) if whole.height else _nulls(whole, features, len(answer))
        return chunks[0].in_wanted_types(rows, features, answer)
    numbers = np.unique(answer[answer != NONE])
    parts = []
    for chunk in chunks:
        mine = numbers[(numbers >= chunk.start) & (numbers < chunk.start + chunk.rows)]
        if len(mine):
            rows = chunk.read(features).select(pl.all().gather(pl.Series(mine - chunk.start, dtype=pl.UInt32)))
            parts.append(chunk.in_wanted_types(rows, features, mine))
    if not parts:
        nothing = chunks[0].scan(features).head(0).collect()
        return _nulls(chunks[0].in_wanted_types(nothing, features), features, len(answer))
    rows = pl.concat(parts)
    place = pl.Series("i", np.searchsorted(numbers, np.maximum(answer, 0)), dtype=pl.UInt32).to_frame()
    chosen = place.with_columns(found=answer != NONE).select(pl.when("found").then("i"))["i"]
    return rows.select(pl.all().gather(chosen))


def _nulls(frame: pl.DataFrame, features: Sequence[str], rows: int) -> pl.DataFrame:
    return frame.select(features).clear(rows)
