"""Looks for users in one Parquet file and writes a file anew without them, some rows at a time."""

from collections import Counter
from collections.abc import Iterator, Set

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.erasure.rows import about, user_columns
from stillpoint.lake.objects import Objects
from stillpoint.lake.streaming import ParquetWriting
from stillpoint.served_rows import SERVED_GROUP
from stillpoint.vector_columns import without_unused

_ROWS = 32_768


def users_in(file: pq.ParquetFile, users: Set[str]) -> Counter[str]:
    """Return how many rows of a file are about each of some users."""
    columns = user_columns(file.schema_arrow)
    counts: Counter[str] = Counter()
    if columns:
        for table in _tables(file, columns):
            counts.update(about(table, users).counts)
    return counts


def write_without(objects: Objects, source: str, target: str, users: Set[str]) -> int:
    """Write the rows of one file that are about none of the users to `target`, which may be the same; return their number."""
    filesystem, root = objects.arrow()
    group = SERVED_GROUP if target.startswith("served/") else None
    with filesystem.open_input_file(f"{root}/{source}") as opened:
        file = pq.ParquetFile(opened)
        with ParquetWriting(objects, target, file.schema_arrow, group_rows=group) as kept:
            for table in _tables(file, None):
                kept.add(without_unused(table.filter(pa.array(~about(table, users).mask))))
            return kept.finish()


def _tables(file: pq.ParquetFile, columns: list[str] | None) -> Iterator[pa.Table]:
    for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
        yield pa.Table.from_batches([batch])
