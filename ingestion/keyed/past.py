"""Rows older than what a key's state keeps are computed from the lake: shards lagged behind one another for very long."""

from collections.abc import Sequence
from datetime import timedelta
from functools import reduce
from operator import and_

import pyarrow.compute as pc

from stillpoint.app.events import Arrival
from stillpoint.clock import from_micros
from stillpoint.events.types import Verdict
from stillpoint.features.streamed.definition import Key, Row
from stillpoint.features.streamed.history import rows_of_key
from stillpoint.features.streamed.stream import AppStream
from stillpoint.lake.datasets import DateRange
from stillpoint.lake.tables import Lake


def rows_from_the_lake(
    lake: Lake, stream: AppStream, view: str, key: Key, fresh: Sequence[Arrival], span: tuple[int, int]
) -> list[Row]:
    """Return a key's rows of a span of times, from the committed events and the `fresh` ones, which are not committed yet."""
    runner = stream.engine.of_others[view]
    first, last = from_micros(span[0]) - stream.reach - timedelta(days=1), from_micros(span[1])
    own = [pc.field("verdict") == Verdict.ON_TIME.value]
    own += [pc.field(name).cast("string") == value for name, value in zip(runner.keys, key, strict=True)]
    table = lake.read("events", DateRange(first.date(), last.date()), where=reduce(and_, own))
    committed = [one for one in stream.recorded.on_time(table) if type(one.event) in runner.events]
    rows = rows_of_key(runner, key, [*committed, *fresh])
    return [row for row in rows if span[0] <= row[len(key)] <= span[1]]
