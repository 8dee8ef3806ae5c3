"""The sample of entities that the gate checks, with the rows that the lake expects online."""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from release.gate import Subject
from stillpoint.app.records import View
from stillpoint.clock import to_micros
from stillpoint.lake.datasets import DateRange, feature_dataset, join_batches

BATCH_ROWS = 50_000
PAIR, _BETWEEN = "pair", "\x1f"
MARGIN = timedelta(seconds=60)
"""Rows that are closer than this to the end of their time to live are left out: they may expire before the gate reads them."""


@dataclass(frozen=True, slots=True)
class ExpectedRows:
    """Sampled rows of a view: `frame` the newest per entity, `moments` the newest per entity and event time.

    `key` is the column that names the entity: its only key, or the keys of a pair as one text beside them.
    """

    frame: pl.DataFrame
    moments: pl.DataFrame
    key: str
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return self.frame.height

    def asked(self) -> dict[str, list[str]]:
        """Return the sampled entities as a reader takes them, in the order of `frame`."""
        return {name: self.frame[name].to_list() for name in self.keys}


def expected_rows(subject: Subject, view: View, entities: Collection[str] | None = None) -> ExpectedRows:
    """Return the rows that a sample of a view's entities must have online at the subject's `now`, of `entities` if given.

    Sampled are the entities with the smallest hashes under the seed. One pass over the lake finds them in bounded memory, and the sample
    stays the same when other entities are added or removed.
    """
    dataset = feature_dataset(view, subject.candidate.release.mapping_version)
    keys, dates, where = view.entity.keys, DateRange(), None
    key = keys[0] if len(keys) == 1 else PAIR
    if view.ttl is not None:
        oldest = subject.now - view.ttl
        dates = DateRange(first=oldest.date())
        where = pc.field("event_timestamp") >= pa.scalar(oldest + MARGIN, pa.timestamp("us", tz="UTC"))
    if entities is not None:
        firsts = sorted({entity.partition(_BETWEEN)[0] if key == PAIR else entity for entity in entities})
        chosen = pc.field(keys[0]).isin(pa.array(firsts, pa.string()))
        where = chosen if where is None else where & chosen
    count = subject.thresholds.sample if entities is None else len(entities)
    seed = zlib.crc32(f"{subject.seed}:{view.name}".encode())
    opened = subject.lake.dataset(dataset, dates)
    frame = pl.from_arrow(opened.schema.empty_table())
    assert isinstance(frame, pl.DataFrame)
    if keys[0] not in frame.columns:
        return ExpectedRows(frame, frame, key, keys)
    frame = _named(frame, keys)
    for table in join_batches(opened.to_batches(filter=where), BATCH_ROWS):
        part = pl.from_arrow(table)
        assert isinstance(part, pl.DataFrame)
        part = _named(part, keys)
        if entities is not None:
            part = part.filter(pl.col(key).is_in(list(entities)))
        frame = _smallest(pl.concat([frame, part]), key, seed, count)
    moments = frame.sort(key, "event_timestamp", "created_timestamp", maintain_order=True).unique(
        subset=[key, "event_timestamp"], keep="last", maintain_order=True
    )
    return ExpectedRows(moments.unique(subset=[key], keep="last", maintain_order=True), moments, key, keys)


def _named(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Add the column that names a pair; an entity of one key has its name already."""
    if len(keys) == 1:
        return frame
    return frame.with_columns(pl.concat_str([pl.col(key) for key in keys], separator=_BETWEEN).alias(PAIR))


def _smallest(frame: pl.DataFrame, key: str, seed: int, count: int) -> pl.DataFrame:
    """Keep the rows of the `count` entities whose hashes are the smallest."""
    hashes = frame[key].unique().to_frame().with_columns(pl.col(key).hash(seed).alias("hash"))
    return frame.filter(pl.col(key).is_in(hashes.bottom_k(count, by=["hash", key])[key].implode()))


def micros(frame: pl.DataFrame, column: str) -> list[int]:
    """Return a time column as microseconds since 1970."""
    return [to_micros(moment) for moment in frame[column].to_list()]
