"""Reads the lake's rows to be checked, a bounded number at a time."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from stillpoint.errors import CorruptData
from stillpoint.lake.datasets import ALL_DATES, DateRange, join_batches
from stillpoint.lake.tables import Lake
from stillpoint.outages import outage

BATCH_ROWS = 250_000


def batches(lake: Lake, dataset: str, dates: DateRange = ALL_DATES) -> Iterator[pa.Table]:
    """Yield the committed rows of a dataset in batches of up to `BATCH_ROWS` rows, small files joined.

    Raises:
        CorruptData: committed files are missing or unreadable; the text names them.
    """
    try:
        # A check costs about the same for ten rows as for ten thousand.
        yield from join_batches(lake.dataset(dataset, dates).to_batches(batch_size=BATCH_ROWS), BATCH_ROWS)
    except (pa.ArrowException, OSError) as error:
        if outage(error) is not None:
            raise
        damaged = [file.path for file in lake.files(dataset, dates) if not _readable(lake, file.path)]
        if not damaged:
            raise
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise CorruptData(
            f"{lake.root}: {dataset} cannot be checked, since committed files are gone or damaged: "
            f"{', '.join(damaged[:3])}{more} ({str(error).splitlines()[0][:120]}); restore them from a backup or a version"
        ) from None


def newest_batches(lake: Lake, dataset: str, *, days: int, rows: int) -> Iterator[pa.Table]:
    """Yield the rows of the newest days that have any, the newest first, and at most `rows` of them.

    Raises:
        CorruptData: as `batches`.
    """
    dates = sorted({file.date for file in lake.files(dataset) if file.rows}, reverse=True)
    left = rows
    for day in dates[:days]:
        for table in batches(lake, dataset, DateRange(day, day)):
            yield table.slice(0, left)
            left -= table.num_rows
            if left <= 0:
                return


def _readable(lake: Lake, path: str) -> bool:
    filesystem, root = lake.objects.arrow()
    try:
        with filesystem.open_input_file(f"{root}/{path}") as source:
            pq.ParquetFile(source).read()
    except (pa.ArrowException, OSError) as error:
        if outage(error) is not None:
            raise
        return False
    return True
